"""Predictions on standard output as they come: a table, JSON lines or comma-separated values."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from headstart.core.text import shown

if TYPE_CHECKING:
    from headstart.core.answers import Answer
    from headstart.core.predictor import Prediction, Predictor

# The widths of a table are taken from the first so many pictures, or from those of a second.
_WINDOW, _SECONDS = 64, 1.0
Answered = Iterable[tuple[str, "Answer | None", "str | None"]]  # path, and what is said or why there is nothing


def write(predictions: Iterable[Prediction], predictor: Predictor, top: int, style: str | None) -> int:
    """Write predictions as they come and return how many pictures could not be read.

    Args:
        predictions: Of `predictor.stream`.
        predictor: Whose classes and thresholds they are.
        top: How many classes to tell.
        style: "json", "csv", or None for a table.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    broken = 0

    def answered() -> Iterator[tuple[str, Answer | None, str | None]]:
        nonlocal broken
        for prediction in predictions:
            if prediction.probabilities is None:
                broken += 1
                click.echo(f"headstart: {shown(prediction.name)}: {prediction.error}", err=True)
            said = None if prediction.probabilities is None else predictor.answer(prediction)
            yield prediction.name, said, prediction.error

    _STYLES[style](answered(), predictor, top)
    return broken


def _write_json(answered: Answered, predictor: Predictor, top: int) -> None:
    """Write one object a picture; those that could not be read have `error`."""
    titles = predictor.description.get("class_names", {})
    for path, answer, error in answered:
        told: dict[str, object] = {"path": _utf8(path)}
        if answer is None:
            told["error"] = error
        else:
            # A thousand ImageNet classes a line help nobody; a model's own classes are all told.
            told |= answer.to_json(top if titles else None)
            if titles:
                told["names"] = {name: titles[name] for name in list(answer.probabilities)[:top]}
        click.echo(json.dumps(told, ensure_ascii=False))


def _write_csv(answered: Answered, predictor: Predictor, top: int) -> None:
    """Write a row a picture that could be read: best classes or labels, then set, unknown and novelty if known."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    top = min(top, len(predictor.classes))
    columns = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("label", "probability")]
    if predictor.thresholds.labels is not None:
        columns = ["labels", *predictor.classes]
    if predictor.thresholds.set_probability is not None:
        columns.append("set")
    if (predictor.description.get("confidence") or {}).get("novelty"):
        columns += ["unknown", "novelty"]
    writer.writerow(["path", *columns])
    for path, answer, _ in answered:
        if answer is not None:
            writer.writerow([_utf8(path), *_cells(answer, predictor.classes, top)])


def _cells(answer: Answer, classes: Sequence[str], top: int) -> list[str]:
    """Return the cells after the path."""
    if answer.labels is not None:
        cells = [";".join(answer.labels), *(f"{answer.probabilities[name]:.6f}" for name in classes)]
    else:
        best = list(answer.probabilities.items())[:top]
        cells = list(chain.from_iterable((name, f"{value:.6f}") for name, value in best))
    if answer.prediction_set is not None:
        cells.append(";".join(answer.prediction_set))
    if answer.novelty is not None:
        unknown = "" if answer.unknown is None else str(answer.unknown).lower()
        cells += [unknown, f"{answer.novelty:.6f}"]
    return cells


def _write_table(answered: Answered, predictor: Predictor, top: int) -> None:
    """Write a line for each picture and class, in columns as wide as the first pictures ask for."""
    from rich.cells import cell_len, set_cell_size

    titles = predictor.description.get("class_names", {})
    header = ("picture", "class" if predictor.thresholds.labels is None else "labels", "probability", "")
    blocks = (_lines(path, answer, titles, top) for path, answer, _ in answered if answer is not None)
    first, began = [], math.inf
    for block in blocks:
        began = min(began, time.monotonic())  # the network is compiled before the first
        first.append(block)
        if len(first) == _WINDOW or time.monotonic() - began > _SECONDS:
            break
    if not first:
        return
    rows = [header, *chain.from_iterable(first)]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(2)]
    for path, name, probability, remark in chain(rows, chain.from_iterable(blocks)):
        left = [
            cell if cell_len(cell) > width else set_cell_size(cell, width)
            for cell, width in zip((path, name), widths, strict=True)
        ]
        click.echo("  ".join([*left, probability.rjust(len("probability")), remark]).rstrip())


def _lines(path: str, answer: Answer, titles: dict[str, str], top: int) -> list[tuple[str, ...]]:
    """Return the lines of one picture: path, class, probability, and what to know of it; the path on the first only.

    Of several labels those that are given, or `none`; with `top` above 1 at least so many.
    """
    best = list(answer.probabilities)[:top]
    if answer.labels is not None:
        best = list(dict.fromkeys([*answer.labels, *(best if top > 1 else [])]))
    named = [f"{name} {titles[name]}" if name in titles else name for name in best] or ["none"]
    values = [f"{answer.probabilities[name]:.3f}" for name in best] or [""]
    remarks = ["" if answer.labels is None or name in answer.labels else "not given" for name in best] or [""]
    if answer.unknown:
        nearest = ", ".join(f"{name} {value}".rstrip() for name, value in zip(named, values, strict=True))
        named, values, remarks = ["unknown"], [""], [f"nearest: {nearest}"]
    elif answer.prediction_set is not None and len(answer.prediction_set) > 1:
        remarks[0] = f"could be {' or '.join(answer.prediction_set)}"
    paths = [path, *[""] * (len(named) - 1)]
    return [tuple(map(shown, line)) for line in zip(paths, named, values, remarks, strict=True)]


_STYLES: dict[str | None, Callable[[Answered, Predictor, int], None]] = {
    None: _write_table,
    "json": _write_json,
    "csv": _write_csv,
}


def _utf8(path: str) -> str:
    """Return a path as data that UTF-8 can hold: the bytes that are not UTF-8 escaped, and nothing else."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
