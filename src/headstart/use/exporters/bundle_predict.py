"""python predict.py [--json] PICTURE…: name what is in pictures.

A PICTURE is a file, a folder, a glob, or - for one on standard input. Needs what requirements.txt lists, and neither
torch nor headstart. The same answers as `headstart predict`.
"""

import io
import json
import sys
from pathlib import Path

from headstart.core.artifact import load
from headstart.core.errors import HeadstartError
from headstart.core.pictures import Picture, expand


def main(arguments: list[str]) -> int:
    """Print one line a picture; return 1 where one could not be read."""
    # A name that the terminal cannot show is shown escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    names = [name for name in arguments if name != "--json"]
    if not names:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        predictor = load(Path(__file__).resolve().parent / "model")
        pictures: list[Picture] = [sys.stdin.buffer.read()] if names == ["-"] else [*expand(names)]
    except HeadstartError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    broken = False
    for prediction in predictor.stream(pictures, many=len(pictures) > 1):
        if prediction.probabilities is None:
            broken = True
            print(f"{prediction.name}: {prediction.error}", file=sys.stderr)
            continue
        answer = predictor.answer(prediction)
        if "--json" in arguments:
            print(json.dumps({"path": prediction.name, **answer.to_json()}))
            continue
        unknown = "  none of these?" if answer.unknown else ""
        given = (answer.label,) if answer.labels is None else answer.labels
        said = "  ".join(f"{name} {answer.probabilities[name]:.3f}" for name in given) or "none"
        print(f"{prediction.name}  {said}{unknown}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
