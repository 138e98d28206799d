"""A `Material` as one self-contained HTML file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.artifact import plain_value
from headstart.core.calibration import error_of
from headstart.core.card import FEW
from headstart.core.finished import Finished
from headstart.core.labels import baselines
from headstart.core.metrics import Evaluation
from headstart.core.preprocessing import Preprocessing
from headstart.core.sentences import (
    groups_sentence,
    paired_verdict,
    percent,
    pictures,
    repeats_sentence,
    width_sentence,
)
from headstart.use.page import render, save_page
from headstart.use.report import charts
from headstart.use.report.material import Material, of_fit
from headstart.use.report.pictures import MOST, crops, show

FILE = "report.html"
# More classes than this make no table that anyone can read: then only the cells of the wrong names are listed.
MATRIX, PAIRS = 20, 40
FIRST = 12
RELIABILITY = ("probability of the named class", "share named right")


def finish(finished: Finished) -> None:
    """Write `report.html` into the model folder that a fit is about to complete.

    A report that cannot be written is a warning: it must not cost a model that took hours.
    """
    try:
        save_page(report(of_fit(finished)), finished.folder / FILE)
    except Exception as error:
        warnings.warn(
            f"{FILE} was not written ({type(error).__name__}: {error}); the model itself is whole. "
            "`headstart report MODEL` tries again.",
            stacklevel=2,
        )


def report(material: Material) -> str:
    """Return the page's HTML."""
    description, said = material.description, material.said
    preprocessing = Preprocessing.from_json(description["preprocessing"])
    shown, why_no_heat = show(said, preprocessing, material.heat_maps)
    several, wide, bins = material.evaluation.several_labels, len(said.classes) > MATRIX, said.bins
    across, up = ("probability of a label", "share that has it") if several else RELIABILITY
    confidence = dict.fromkeys(("n", "test", "cross_validation", "conformal", "labels", "novelty")) | (
        description.get("confidence") or {}
    )
    threshold = (confidence["novelty"] or {}).get("threshold")
    together = description["data"].get("kept_together") or {}
    curves = charts.curves(material.history)
    return render(
        "report.html",
        Path(__file__).parent,
        m=material,
        about=description,
        evaluation=material.evaluation,
        headline=headline(material),
        caveats=caveats(material),
        several=several,
        baselines=baselines(material.evaluation) if several else {},
        matrix=[] if wide or several else _matrix(material.evaluation),
        pairs=_pairs(material.evaluation) if wide and not several else [],
        decisions=said.decisions,
        shown=shown,
        unreachable=sum(path is None for path in said.paths),
        first=FIRST,
        why_no_heat=why_no_heat,
        most=MOST,
        wrong=int((~said.right).sum()),
        mistakes=int((~said.decisions.right).sum()),
        confidence=confidence,
        threshold=threshold,
        gain=(description.get("finetuning") or {}).get("gain"),
        kept=", ".join(f"{number:,} {kind}" for kind, number in together.items() if number),
        crops=crops(said, preprocessing),
        curves=curves,
        reliability=charts.reliability(bins, across, up, intervals=not several),
        ece=error_of(bins),
        novelty=None if said.novelty is None else charts.novelty(said.novelty, threshold),
        moved=_moved(description),
        grouped=material.slices is not None and any(one.units not in (None, one.n) for one in material.slices.rows),
        few=FEW,
        percent=percent,
        paired_verdict=paired_verdict,
        plain=_plain,
    )


def headline(material: Material) -> str:
    """Return the page's first sentence: the main figure with its interval, and what needs no model at all."""
    evaluation = material.evaluation
    main = evaluation.figures[evaluation.headline]
    of_fit = material.data is None
    tested = of_fit and material.description["evaluated_by"] == "test pictures"
    many = pictures(evaluation.n, evaluation.units, "test picture" if tested else "picture")
    many += "" if tested or not of_fit else ", by cross-validation,"
    interval = f"(95 % interval {percent(main.low)} to {percent(main.high)})"
    if evaluation.several_labels:
        chance = percent(baselines(evaluation)["mean_average_precision"])
        return (
            f"Mean average precision {percent(main.value)} on {many.removesuffix(',')} {interval}; pictures in "
            f"random order give {chance}."
        )
    return (
        f"{percent(main.value)} of {many} named right {interval}; always naming the most frequent class gives "
        f"{percent(evaluation.majority)}."
    )


def caveats(material: Material) -> list[str]:
    """Return what the reader must know before believing the headline, one sentence each."""
    evaluation = material.evaluation
    main = evaluation.figures[evaluation.headline]
    lines = []
    if material.data is None and material.description["evaluated_by"] != "test pictures":
        lines.append(
            "There are too few pictures for a test set: every picture was named by a head that had not learned from "
            "it, and the saved model has learned from all of them. "
            + repeats_sentence(material.description.get("repeats"))
        )
    lines += filter(None, (groups_sentence(evaluation), width_sentence(evaluation)))
    if evaluation.several_labels:
        if main.low <= baselines(evaluation)["mean_average_precision"]:
            lines.append("So it is not shown to order pictures better than chance does.")
    elif main.low <= evaluation.majority:
        lines.append("So it is not shown to be better than always naming the most frequent class.")
    if material.trained_on:
        lines.append(
            f"It has learned from {material.trained_on:,} of these {evaluation.n:,} pictures, so the figures are too "
            "good. Measure on pictures that it has not seen."
        )
    return lines


def _matrix(evaluation: Evaluation) -> list[list[tuple[int, float]]]:
    """Return the confusion matrix as counts and shares of each true class."""
    confusion = evaluation.confusion
    support = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return [
        list(zip(counts, shares, strict=True))
        for counts, shares in zip(confusion.tolist(), (confusion / support).tolist(), strict=True)
    ]


def _pairs(evaluation: Evaluation) -> list[tuple[int, int, int, float]]:
    """Return the largest cells beside the diagonal: true class, named class, count, share of the true class."""
    confusion = evaluation.confusion
    wrong = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    cells = (divmod(int(place), len(confusion)) for place in order)
    return [(i, j, int(wrong[i, j]), wrong[i, j] / confusion[i].sum()) for i, j in cells if wrong[i, j]]


def _moved(description: Any) -> list[dict[str, Any]]:
    """Return how far each stage moved in fine-tuning, and its share of what moved most."""
    rows = (description.get("finetuning") or {}).get("moved") or []
    most = max((row["moved"] for row in rows), default=0) or 1
    return [{**row, "share": row["moved"] / most} for row in rows]


def _plain(value: Any) -> str:
    """Return a parameter as it stands in TOML or JSON."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=plain_value)
