"""The result of a fit or an evaluation, as one JSON object and as a few lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli.console import show, show_prose, table
from headstart.core.metrics import Evaluation, Figure
from headstart.core.sentences import paired_verdict, pictures
from headstart.core.text import count

if TYPE_CHECKING:
    from headstart.learn.classifier import ImageClassifier

_PURPOSES = {"train": "train", "validation": "validate", "test": "test"}
NAMES = {
    "mean_average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top5_accuracy": "top-5 accuracy",
    "exact_match": "all labels right",
    "hamming_loss": "Hamming loss",
    "log_loss": "log loss",
}


def figures(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """Return `n`, `units` and every headline figure with `value`, `low` and `high`."""
    if evaluation is None:
        return None
    whole = evaluation.to_json()
    return {"n": whole["n"], "units": whole["units"], **whole["figures"], "majority": whole["majority"]}


def summary(classifier: ImageClassifier, model: str) -> dict[str, Any]:
    """Return what `headstart fit --json` prints."""
    description, history = classifier.predictor_.description, Path(model) / "history.csv"
    report = Path(model) / "report.html"
    return {
        "model": model,
        "classes": classifier.classes_.tolist(),
        "backbone": classifier.backbone,
        "method": classifier.method,
        "head": classifier.head,
        "counts": classifier.counts_,
        "set_aside": [{"path": path, "reason": reason} for path, reason in classifier.set_aside_],
        "kept_together": classifier.kept_together_,
        "seconds": {name: round(seconds, 3) for name, seconds in classifier.seconds_.items()},
        "evaluated_by": classifier.evaluated_by_,
        "repeats": description.get("repeats"),
        "test": figures(classifier.test_),
        "validation": figures(classifier.validation_),
        "finetuning": description.get("finetuning", {}).get("gain"),
        "history": str(history) if history.is_file() else None,
        "report": str(report) if report.is_file() else None,
        "notes": list(classifier.notes_),
    }


def show_fit(result: dict[str, Any]) -> None:
    """Print a fit's result for people."""
    counts, test = result["counts"], result["test"]
    by_test = result["evaluated_by"] == "test pictures"
    what = pictures(test["n"], test["units"], "untouched test picture" if by_test else "picture")
    what += "" if by_test else f", by {result['evaluated_by']} (means of {result['repeats']} repeats)"
    show(
        "",
        f"{result['model']}: {len(result['classes'])} classes, {result['backbone']} with {_a(result['head'])} head",
        f"pictures: {', '.join(f'{many:,} to {_PURPOSES[part]}' for part, many in counts.items() if many)}"
        + (f"; {len(result['set_aside'])} set aside" if result["set_aside"] else ""),
    )
    for aside in result["set_aside"][:10]:
        show(f"  set aside {aside['path']}: {aside['reason']}")
    if sum(result["kept_together"].values()):
        kept = ", ".join(f"{many:,} {kind}" for kind, many in result["kept_together"].items() if many)
        show(f"kept on one side of the split: {kept}")
    show("", f"Measured on {what}, with 95 % intervals:", figure_table(test, result["validation"]))
    show(baseline(test), "")
    if result["finetuning"] is not None:
        show(gained(result["finetuning"]), "")
    if result["history"] is not None:
        show(f"Every epoch is in {result['history']} and curves.png beside it.", "")
    if result["report"] is not None:
        show(f"What it gets wrong, and how sure this is: {result['report']}", "")
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result["seconds"].items() if seconds >= 0.05)
    show_prose(f"{sum(result['seconds'].values()):.1f} s: {parts}")
    show(f"Next: headstart predict {result['model']} PICTURE…")


def baseline(figures: dict[str, Any]) -> str:
    """Return what a model that has learned nothing but frequencies would reach."""
    if "exact_match" in figures:
        return f"Always giving the most frequent combination of labels would have {figures['majority']:.3f} all right."
    return f"Always naming the most frequent class would give {figures['majority']:.3f}."


def _a(word: str) -> str:
    return f"an {word}" if word == "mlp" else f"a {word}"  # spelled: em el pee


def gained(gain: dict[str, Any]) -> str:
    """Return one sentence on what fine-tuning gained on validation; a fit of an earlier version did not tell all."""
    figure = gain.get("figure", "accuracy").replace("_", " ")
    of = f" of epoch {gain['best_epoch']}" if "best_epoch" in gain else ""
    kept = f"the tuned model{of} is kept" if gain["kept"] else "the frozen model is kept"
    on = f"on {count(gain['n'], 'picture')} " if "n" in gain else ""
    test, verdict = gain.get("test", "paired test"), paired_verdict(gain["p"], gain.get("epochs"))
    return (
        f"Fine-tuning: validation {figure} {gain['frozen']:.3f} frozen, {gain['finetuned']:.3f} tuned "
        f"{on}({test} p = {gain['p']:.2g}: {verdict}); {kept}."
    )


def figure_table(test: dict[str, Any], validation: dict[str, Any] | None = None) -> Any:
    """Return a table of figures with their intervals."""
    made = table("", "test") if validation is None else table("", "test", "validation")
    for key, name in NAMES.items():
        if key in test:
            shown = [test[key]] if validation is None else [test[key], validation.get(key)]
            made.add_row(name, *("" if one is None else Figure(**one).text for one in shown))
    return made
