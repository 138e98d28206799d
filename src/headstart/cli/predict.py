"""`headstart predict MODEL PICTURE…`: name what is in pictures, without torch."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from headstart.core.errors import ImageError
from headstart.core.text import shown

if TYPE_CHECKING:
    from headstart.core.answers import Answer
    from headstart.core.predictor import Prediction, Predictor


@click.command("predict")
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] PICTURE…")
@click.option("--backbone", help="Use this backbone's own ImageNet classes instead of a MODEL.")
@click.option("--weights", type=click.Path(), help="With --backbone: a file with its weights.")
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="How many classes to show.")
@click.option("--json", "style", flag_value="json", help="One JSON object a picture.")
@click.option("--csv", "style", flag_value="csv", help="Comma-separated values.")
@click.option("--precision", default="float32", help="float32 (the same answer everywhere) or bfloat16.")
@click.option("--watch", is_flag=True, help="Label what a FOLDER holds and what comes into it; needs --out.")
@click.option("--out", type=click.Path(), help="With --watch: append to this file, .csv or JSON lines.")
def command(
    arguments: tuple[str, ...],
    backbone: str | None,
    weights: str | None,
    top: int,
    style: str | None,
    precision: str,
    watch: bool,
    out: str | None,
) -> None:
    """Name what is in pictures: files, folders, globs, or - for standard input (a picture, or one path a line).

    A picture that cannot be read is said and the others go on; the exit code is then 1.
    """
    predictor = _predictor(arguments[0] if backbone is None else None, backbone, weights, precision)
    names = arguments if backbone is not None else arguments[1:]
    if not names:
        raise click.UsageError("no picture given: name files, folders, globs, or - for standard input.")
    if watch or out is not None:
        _watch(predictor, names, top, out if watch else None)
        return
    from headstart.core.pictures import expand

    pictures = chain.from_iterable(_standard_input() if name == "-" else expand([name]) for name in names)
    first_two = [picture for _, picture in zip(range(2), pictures, strict=False)]
    if not first_two:
        raise ImageError(f"{' '.join(names)}: no picture found. Name files or folders that hold pictures.")
    predictions = predictor.stream(chain(first_two, pictures), many=len(first_two) > 1)
    broken = _write(predictions, predictor, top, style)
    if broken:
        sys.exit(1)


def _predictor(model: str | None, backbone: str | None, weights: str | None, precision: str) -> Predictor:
    if precision not in ("float32", "bfloat16"):
        raise click.BadParameter(f"{precision!r} is not float32 or bfloat16", param_hint="--precision")
    if model is not None:
        from headstart.core.artifact import load

        return load(model, precision="bfloat16" if precision == "bfloat16" else "float32")
    from headstart.learn.imagenet import imagenet_predictor

    predictor = imagenet_predictor(str(backbone), weights=weights)
    predictor.precision = "bfloat16" if precision == "bfloat16" else "float32"
    return predictor


def _watch(predictor: Predictor, names: tuple[str, ...], top: int, out: str | None) -> None:
    """Watch one folder until SIGTERM or Ctrl-C."""
    import signal
    import threading
    from pathlib import Path

    from headstart.use.watch import watch

    if out is None or len(names) != 1:
        raise click.UsageError(
            "--watch takes one FOLDER and --out FILE: predict MODEL FOLDER --watch --out labels.csv."
        )
    stop = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda number, frame: stop.set())
    click.echo(f"watching {names[0]}, appending to {out}  (stop with Ctrl-C)", err=True)
    few = top if "class_names" in predictor.description else None
    count = watch(predictor, Path(names[0]), Path(out), stop=stop, top=few)
    click.echo(f"{count} pictures labelled", err=True)


def _standard_input() -> Iterator[bytes | str]:
    """Yield the picture that standard input holds, or the paths that it lists."""
    from headstart.core.images import MAX_BYTES, inspect

    data = sys.stdin.buffer.read(MAX_BYTES)
    try:
        inspect(data)
    except ImageError:
        if b"\0" in data:  # no list of paths, so a picture that is damaged
            yield data
            return
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        yield from (line.rstrip("\r") for line in lines if line.strip())
    else:
        yield data


def _write(predictions: Iterable[Prediction], predictor: Predictor, top: int, style: str | None) -> int:
    """Write the predictions as they come and return how many pictures could not be read."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    broken = 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    titles = predictor.description.get("class_names", {})
    if style == "csv":
        columns = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("label", "probability")]
        if predictor.thresholds.labels is not None:
            columns = ["labels", *predictor.classes]
        doubts = [*(["set"] if predictor.thresholds.set_probability is not None else [])]
        if (predictor.description.get("confidence") or {}).get("novelty"):
            doubts += ["unknown", "novelty"]
        writer.writerow(["path", *columns, *doubts])
    for prediction in predictions:
        if prediction.probabilities is None:
            broken += 1
            click.echo(f"headstart: {shown(prediction.name)}: {prediction.error}", err=True)
            if style == "json":
                click.echo(json.dumps({"path": _printable(prediction.name), "error": prediction.error}))
            continue
        answer = predictor.answer(prediction)
        if style == "json":
            click.echo(json.dumps(_as_json(prediction.name, answer, titles, top), ensure_ascii=False))
        elif style == "csv":
            cells = _cells(answer, predictor.classes, top)
            writer.writerow([_printable(prediction.name), *cells, *_doubts(answer)])
        else:
            click.echo(shown(f"{prediction.name}  {_in_words(answer, titles, top)}"))
    return broken


def _as_json(name: str, answer: Answer, titles: dict[str, str], top: int) -> dict[str, object]:
    # A thousand ImageNet classes a line help nobody; a model's own classes are all told.
    told = {"path": _printable(name), **answer.to_json(top if titles else None)}
    return {**told, "names": {name: titles[name] for name in told["probabilities"]}} if titles else told


def _cells(answer: Answer, classes: Sequence[str], top: int) -> list[str]:
    """Return the best classes and their probabilities; of several labels those given, and the probability of each."""
    if answer.labels is not None:
        return [";".join(answer.labels), *(f"{answer.probabilities[name]:.6f}" for name in classes)]
    best = [(name, f"{value:.6f}") for name, value in list(answer.probabilities.items())[:top]]
    return list(chain.from_iterable(best))


def _doubts(answer: Answer) -> list[str]:
    """Return the cells that a model with prediction sets and a bank adds: the set, unknown or not, the novelty."""
    cells = [] if answer.prediction_set is None else [";".join(answer.prediction_set)]
    return cells if answer.novelty is None else [*cells, str(answer.unknown).lower(), f"{answer.novelty:.6f}"]


def _in_words(answer: Answer, titles: dict[str, str], top: int) -> str:
    """Return the classes with their probabilities; `unknown` first where it is none of them; the set where in doubt.

    Of several labels those that are given, or `none`, and with `top` above 1 at least so many.
    """
    best = list(answer.probabilities.items())[:top]
    if answer.labels is not None:
        shown = dict.fromkeys([*answer.labels, *(name for name, _ in best if top > 1)])
        said = "  ".join(
            f"{name}{'' if name in answer.labels else '?'} {answer.probabilities[name]:.3f}" for name in shown
        )
        return f"unknown (nearest: {said or 'none'})" if answer.unknown else said or "none"
    named = "  ".join(f"{n} {titles[n]} {p:.3f}" if n in titles else f"{n} {p:.3f}" for n, p in best)
    if answer.unknown:
        return f"unknown (nearest: {named})"
    if answer.prediction_set is not None and len(answer.prediction_set) > 1:
        return f"{named}  (could be {' or '.join(answer.prediction_set)})"
    return named


def _printable(path: str) -> str:
    """Return a path whose bytes are not UTF-8 in a form that every terminal and JSON takes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
