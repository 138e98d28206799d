"""`README.md` of a model folder: a model card in Hugging Face's metadata format.

What a card tells follows Mitchell et al. 2019 (arXiv:1810.03993): what the model is for, on what it was measured, how
sure the figures are, and where it ends.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from headstart.core.metrics import ClassFigures, Evaluation, Figure
from headstart.core.sentences import groups_sentence, pictures, repeats_sentence, width_sentence

# Below this many pictures a share says next to nothing.
FEW = 20
SHOWN_CLASSES = 20
# What backbones say of their weights' licence -> the identifier that the hub knows; others become `other`.
_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "bsd-3-clause": "bsd-3-clause",
    "cc by 4.0": "cc-by-4.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
}
# Figure -> the hub's name of the metric, and how people call it.
_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "top5_accuracy": ("top5_accuracy", "Top-5 accuracy"),
    "log_loss": ("log_loss", "Log loss"),
    "mean_average_precision": ("mean_average_precision", "Mean average precision"),
    "micro_f1": ("f1_micro", "Micro F1"),
    "exact_match": ("exact_match", "All labels right"),
    "hamming_loss": ("hamming_loss", "Hamming loss"),
}


def write_card(folder: Path, description: dict[str, Any], figures: Evaluation) -> None:
    """Write `README.md`: metadata that the Hugging Face hub reads, and a page for people.

    Args:
        folder: The model folder that is being written.
        description: What `model.json` will say.
        figures: Measured on the saved model, or by cross-validation.
    """
    parts = [
        f"---\n{metadata(description, figures)}\n---",
        _title(description),
        _purpose(description),
        _figures(description, figures),
        _confidence(description.get("confidence") or {}),
        _data(description),
        _limits(description, figures),
        _licence(description["backbone"]),
        _loading(description),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (folder / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")


def metadata(description: dict[str, Any], figures: Evaluation) -> str:
    """Return the card's metadata as YAML, written by the hub's own library (no request is made)."""
    from huggingface_hub import EvalResult, ModelCardData

    backbone, data = description["backbone"], description["data"]
    licence = licence_identifier(backbone["licence"])
    by_test = description["evaluated_by"] == "test pictures"
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=_slug(data["name"]),
            dataset_name=_one_line(data["name"]),
            dataset_split="test" if by_test else "cross-validation",
            dataset_args={"pictures": figures.n, "fingerprint": data["fingerprint"][:16]},
            metric_type=_METRICS[name][0],
            metric_name=_METRICS[name][1],
            metric_value=round(figure.value, 6),
        )
        for name, figure in figures.figures.items()
        if name in _METRICS
    ]
    written = ModelCardData(
        model_name=_one_line(data["name"]),
        license=licence,
        license_name=_slug(backbone["licence"].partition("(")[0]) if licence == "other" else None,
        library_name="headstart",
        pipeline_tag="image-classification",
        tags=["image-classification", "transfer-learning", "headstart", "onnx", _slug(backbone["name"])],
        base_model=base_model(backbone["source"]),
        eval_results=results,
    ).to_yaml(line_break="\n")
    return str(written).strip()


def licence_identifier(licence: str) -> str:
    """Return the hub's identifier of a licence as a backbone tells it, or `other`."""
    return _LICENCES.get(licence.partition("(")[0].strip().lower(), "other")


def base_model(source: str) -> str | None:
    """Return the hub repository that the weights came from, or None where they came from elsewhere."""
    kind, _, repository = source.partition(" ")
    return repository if kind == "hub" and "/" in repository else None


def _title(description: dict[str, Any]) -> str:
    classes = description["classes"]
    names = ", ".join(_escaped(name) for name in classes[:10]) + (" …" if len(classes) > 10 else "")
    return f"# {_escaped(description['data']['name'])}: {names}"


def _purpose(description: dict[str, Any]) -> str:
    classes, backbone = description["classes"], description["backbone"]
    version = description["versions"].get("headstart", "")
    name, head = _escaped(backbone["name"]), description["head"]["name"]
    frozen = f"a {head} head on the features of {name}, which is frozen"
    tuned = f"{name} and a {head} head, fine-tuned together"
    if (description.get("finetuning") or {}).get("failed"):
        frozen += " (fine-tuning was tried, and failed)"
    several = description.get("output") == "multilabel"
    what, none = ("labels", " (several, one or none)") if several else ("classes", "")
    return (
        "## What it is for\n\n"
        f"Naming which of {len(classes):,} {what} a picture shows{none}. Made with headstart {version} "
        f"by transfer learning: {frozen if description['method'] == 'frozen' else tuned}.\n"
        "It is meant for pictures like those that it learned from. Nobody has examined it for decisions about people, "
        "or for any use in which a wrong answer harms."
    )


def _figures(description: dict[str, Any], figures: Evaluation) -> str:
    many = pictures(figures.n, figures.units)
    by_test = description["evaluated_by"] == "test pictures"
    how = (
        f"Measured once, on the saved model itself and {many} that neither taught nor chose it."
        if by_test
        else f"There are too few pictures for a test set: measured by repeated cross-validation over {many}. The saved "
        f"model learned from all of them. {repeats_sentence(description.get('repeats'))}"
    )
    rows = [
        f"| {_METRICS.get(name, (name, name))[1]} | {one.value:.3f} | {one.low:.3f} to {one.high:.3f} |"
        for name, one in figures.figures.items()
    ]
    lines = [
        "## How good it is",
        "",
        how,
        *filter(None, (groups_sentence(figures), width_sentence(figures))),
        f"Always giving the most frequent combination of labels has {figures.majority:.3f} all right."
        if figures.several_labels
        else f"Always naming the most frequent class gives {figures.majority:.3f}.",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *rows,
        "",
        *_class_table(figures),
    ]
    return "\n".join(lines)


def _class_table(figures: Evaluation) -> list[str]:
    named = [pair for pair in zip(figures.classes, figures.per_class, strict=True) if pair[1].support]
    worst = sorted(named, key=lambda pair: pair[1].recall.value)[:SHOWN_CLASSES]
    more = len(named) - len(worst)
    several = figures.several_labels
    return [
        f"| class | pictures | recall | precision |{' average precision | threshold |' if several else ''}",
        f"|---|---|---|---|{'---|---|' if several else ''}",
        *(_class_row(name, one) for name, one in worst),
        *([f"\nThe {more:,} classes with a higher recall are in `model.json`."] if more > 0 else []),
    ]


def _class_row(name: str, one: ClassFigures) -> str:
    shown = [one.recall, one.precision, *([] if one.average_precision is None else [one.average_precision])]
    cells = [figure.text for figure in shown]
    cells += [] if one.threshold is None else [f"{one.threshold:.3f}"]
    return f"| {_escaped(name)} | {one.support:,} | {' | '.join(cells)} |"


def _confidence(confidence: dict[str, Any]) -> str:
    """Return how far probabilities may be believed, of what `model.json` knows about it."""
    lines = []
    if "n" in confidence:  # else there were too few pictures to fit a temperature on
        line = (
            f"- Probabilities are at temperature {confidence['temperature']:.2f} (Guo et al. 2017), fitted on "
            f"{confidence['n']:,} held-out pictures"
        )
        for key, on in (("test", "on the test pictures"), ("cross_validation", "on the same pictures")):
            if tested := confidence.get(key):
                line += (
                    f": the expected calibration error {on} is {tested['before']['ece']:.3f} without and "
                    f"{tested['after']['ece']:.3f} with it"
                )
        lines.append(f"{line}.")
    if conformal := confidence.get("conformal"):
        lines.append(_sets(conformal))
    if chosen := confidence.get("labels"):
        lines.append(
            "- A label is given from its threshold on, which is where F1 was highest on "
            f"{chosen['n']:,} held-out pictures; a label of very few keeps 0.5."
        )
    if _answers_unknown(confidence):
        novelty = confidence["novelty"]
        line = (
            "- A picture unlike those it learned from is answered with `unknown`. This is meant to happen to "
            f"{100 * novelty['false_alarm_rate']:.0f} % of the pictures that are like them"
        )
        if alarms := novelty.get("test_alarms"):
            line += (
                f"; it did to {alarms['value']:.3f} of the test pictures ({alarms['low']:.3f} to {alarms['high']:.3f})"
            )
        lines.append(f"{line}.")
    return "\n".join(["## How far its confidence can be trusted", "", *lines]) if lines else ""


def _sets(conformal: dict[str, Any]) -> str:
    share = f"{100 * conformal['coverage']:.0f} %"
    if not conformal["threshold"] > 0:
        return (
            f"- {conformal['n']:,} held-out pictures are too few for sets of classes that hold the true one for "
            f"{share} of the pictures: every answer is the set of all classes."
        )
    line = f"- An answer is a set of classes that holds the true one for {share} of the pictures"
    if measured := conformal.get("test_coverage"):
        line += f"; on the test pictures {Figure(**measured).text}"
    line += f", {conformal['mean_size']:.2f} classes on average" if "mean_size" in conformal else ""
    return f"{line}."


def _answers_unknown(confidence: dict[str, Any]) -> bool:
    return (confidence.get("novelty") or {}).get("threshold") is not None


def _data(description: dict[str, Any]) -> str:
    data = description["data"]
    counts = ", ".join(f"{number:,} {part}" for part, number in data["counts"].items() if number)
    lines = ["## Data", "", f"{_escaped(data['name'])}: {counts} pictures (fingerprint `{data['fingerprint'][:16]}`)."]
    if data.get("set_aside"):
        lines.append(f"{len(data['set_aside']):,} pictures were set aside; `model.json` names them and says why.")
    together = {kind: number for kind, number in (data.get("kept_together") or {}).items() if number}
    if together:
        kept = ", ".join(f"{number:,} {kind}" for kind, number in together.items())
        lines.append(f"Pictures that belong together never stood on both sides of the split: {kept}.")
    return "\n".join(lines)


def _limits(description: dict[str, Any], figures: Evaluation) -> str:
    lines = []
    if not _answers_unknown(description.get("confidence") or {}):
        lines.append(
            "- It knows nothing but its classes: a picture of anything else gets one of them all the same."
            if not figures.several_labels
            else "- It knows nothing but its labels: a picture of anything else may get some of them all the same."
        )
    lines.append(
        "- The figures hold for pictures taken as these were. Another camera, place, season or way of choosing them "
        "can lower them, and nothing here measured that."
    )
    few = [
        (name, one.support) for name, one in zip(figures.classes, figures.per_class, strict=True) if one.support < FEW
    ]
    if few:
        listed = ", ".join(f"{_escaped(name)} ({n})" for name, n in few[:10]) + (" …" if len(few) > 10 else "")
        lines.append(f"- Classes measured on fewer than {FEW} pictures, whose own figures say little: {listed}.")
    if sentence := width_sentence(figures):
        lines.append(f"- {sentence}")
    return "\n".join(["## Limits", "", *lines])


def _licence(backbone: dict[str, Any]) -> str:
    return (
        "## Licence\n\n"
        f"The backbone's weights ({_escaped(backbone['source'])}) are under {_escaped(backbone['licence'])}; what was "
        "learned on top of them is derived from them and from the pictures. Check both before you publish or sell it."
    )


def _loading(description: dict[str, Any]) -> str:
    height, width = description["preprocessing"]["image_size"]
    decide = 'print(description["classes"][probabilities[0].argmax()])'
    if description.get("output") == "multilabel":
        decide = (
            'thresholds = description["confidence"]["labels"]["thresholds"]\n'
            'print([c for c, p in zip(description["classes"], probabilities[0]) if p >= thresholds[c]])'
        )
    return f"""## How to use it

At the command line, in this folder (`pip install headstart`; no torch is imported):

```bash
headstart predict . picture.jpg
```

In Python:

```python
from headstart import load

predictor = load(".")
print(predictor.predict("picture.jpg"), predictor.predict_proba("picture.jpg"))
```

With ONNX Runtime alone, apart from the resizing that `preprocessing` in `model.json` describes:

```python
import json
from pathlib import Path

import numpy as np
import onnxruntime
from headstart import Preprocessing

description = json.loads(Path("model.json").read_text())
preprocessing = Preprocessing.from_json(description["preprocessing"])
images = np.stack([preprocessing.load(Path("picture.jpg").read_bytes())])  # uint8 (n, {height}, {width}, 3)
session = onnxruntime.InferenceSession("model.onnx")
(probabilities,) = session.run(["probabilities"], {{"images": images}})
{decide}
```"""


def _one_line(text: str) -> str:
    """Return a name on one line, with bytes that are not UTF-8 written out."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def _escaped(text: str) -> str:
    """Return a name that Markdown shows as it is, also in a table."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", _one_line(text))


def _slug(text: str) -> str:
    """Return a name in lower case with dashes, as the hub's identifiers are written."""
    return re.sub(r"[^a-z0-9._]+", "-", _one_line(text).lower()).strip("-.") or "pictures"
