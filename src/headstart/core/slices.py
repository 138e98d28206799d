"""Figures of parts of the pictures: one camera, one site, one quarter of the sizes. numpy only."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.core.intervals import effective_size, proportion
from headstart.core.labels import evaluate_labels
from headstart.core.metrics import Figure, balanced_figure
from headstart.core.outcomes import Outcomes
from headstart.core.significance import LEVEL, fisher_exact, holm
from headstart.core.text import count

# A slice of fewer pictures says next to nothing; a column of more values is an identifier rather than a kind.
MIN_PICTURES, MAX_VALUES = 10, 50
# Numeric columns with more values than this are cut at their quartiles.
MAX_NUMBERS = 8
MISSING = "(none)"
_SEVERAL = (list, tuple, np.ndarray)


@dataclass(frozen=True)
class Slice:
    """The pictures that have one value in one column.

    Attributes:
        column: Name of the column.
        value: The value, or the range of a quarter of a numeric column.
        n: How many pictures.
        figures: `accuracy` (Wilson's interval) and `balanced_accuracy` (mean recall over the classes that occur in it);
            with several labels a picture `exact_match`, `mean_average_precision` and `macro_f1`. With 95 % intervals.
        p: Of "it is named right as often as the other pictures" (Fisher's exact test), corrected for the number of
            slices (Holm). With several labels right means all of them.
        units: How many units the pictures make, see `Evaluation`; None where that is not known.
    """

    column: str
    value: str
    n: int
    figures: dict[str, Figure]
    p: float
    units: int | None = None


@dataclass(frozen=True)
class Slices:
    """Every slice that is large enough, the least accurate first.

    Attributes:
        n: Pictures in all.
        headline: The figure that slices are ordered and tested by: `accuracy` or `exact_match`.
        value: That figure of all pictures.
        rows: The slices.
        too_small: `(column, value, pictures)` of those with fewer than `MIN_PICTURES`.
        left_out: `(column, reason)` of columns that are not cut into slices.
    """

    n: int
    headline: str
    value: float
    rows: tuple[Slice, ...]
    too_small: tuple[tuple[str, str, int], ...]
    left_out: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "n": self.n,
            self.headline: self.value,
            "slices": [_flat(asdict(row)) for row in self.rows],
            "too_small": [{"column": c, "value": v, "n": n} for c, v, n in self.too_small],
            "left_out": [{"column": column, "reason": reason} for column, reason in self.left_out],
        }

    def notes(self) -> list[str]:
        """Return what a reader of the table must know, one sentence each."""
        lines = []
        if len(self.rows) > 1:
            apart = [row for row in self.rows if row.p < LEVEL]
            worse = [f"{row.column}={row.value}" for row in apart if row.figures[self.headline].value < self.value]
            shown = ", ".join(worse[:3]) + (" …" if len(worse) > 3 else "")
            verdict = f"worse than the rest beyond chance: {shown}" if worse else "none is worse beyond chance"
            lines.append(
                f"{len(self.rows)} slices are {len(self.rows)} looks: by chance alone the worst looks bad. With p "
                f"corrected for that (Fisher, Holm), {verdict}."
            )
        if self.too_small:
            names = ", ".join(f"{column}={value} ({n})" for column, value, n in self.too_small[:3])
            more = " …" if len(self.too_small) > 3 else ""
            small = count(len(self.too_small), "slice")
            lines.append(f"{small} of fewer than {MIN_PICTURES} pictures not shown: {names}{more}.")
        lines += [f"Column {column!r} not cut into slices: {reason}." for column, reason in self.left_out]
        return lines


def slices(columns: Mapping[str, Sequence[Any]], outcomes: Outcomes) -> Slices:
    """Cut labelled pictures by the values of each column and measure every part.

    Args:
        columns: n values by the name of the column; None and not-a-number are missing, which is a slice too.
        outcomes: What a model said of these n pictures.
    """
    right = outcomes.right
    members: list[tuple[str, str, np.ndarray]] = []
    left_out: list[tuple[str, str]] = []
    for name, values in columns.items():
        labels = _labels([None if _is_missing(value) else value for value in values])
        distinct = list(dict.fromkeys(labels))
        if len(distinct) > MAX_VALUES:
            left_out.append((name, f"it has {len(distinct):,} values, more than {MAX_VALUES}"))
        elif len(distinct) < 2:
            left_out.append((name, "it has the same value everywhere"))
        elif max(labels.count(label) for label in distinct) < MIN_PICTURES:
            left_out.append((name, f"none of its {len(distinct)} values has {MIN_PICTURES} pictures"))
        else:
            found = np.array(labels, object)
            members += [(name, label, found == label) for label in distinct]
    large = [part for part in members if part[2].sum() >= MIN_PICTURES]
    corrected = holm([_against_the_rest(right, inside, outcomes.units) for _, _, inside in large])
    rows = [
        Slice(column, value, int(inside.sum()), _figures(outcomes, right, inside), float(p), _units(outcomes, inside))
        for (column, value, inside), p in zip(large, corrected, strict=True)
    ]
    headline = "exact_match" if outcomes.several_labels else "accuracy"
    rows.sort(key=lambda row: (row.figures[headline].value, row.figures[headline].high))
    small = tuple((c, v, int(inside.sum())) for c, v, inside in members if inside.sum() < MIN_PICTURES)
    value = float(right.mean()) if len(right) else 0.0
    return Slices(len(right), headline, value, tuple(rows), small, tuple(left_out))


def _units(outcomes: Outcomes, inside: np.ndarray) -> int | None:
    return None if outcomes.units is None else len(np.unique(outcomes.units[inside]))


def _figures(outcomes: Outcomes, right: np.ndarray, inside: np.ndarray) -> dict[str, Figure]:
    targets, units = outcomes.targets[inside], None if outcomes.units is None else outcomes.units[inside]
    if outcomes.several_labels:
        said = outcomes.probabilities[inside]
        whole = evaluate_labels(targets, said, outcomes.classes, thresholds=outcomes.thresholds, units=units).figures
        return {name: whole[name] for name in ("exact_match", "mean_average_precision", "macro_f1")}
    accuracy = Figure(*proportion(right[inside], units))
    return {"accuracy": accuracy, "balanced_accuracy": balanced_figure(targets, right[inside], units)}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a slice as JSON has it: its figures beside its name."""
    p = row.pop("p")
    return {**{key: value for key, value in row.items() if key != "figures"}, **row["figures"], "p": p}


def _against_the_rest(right: np.ndarray, inside: np.ndarray, units: np.ndarray | None) -> float:
    """Return Fisher's p; where pictures belong together counts are over the design effect (Rao and Scott 1992)."""
    found = []
    for part in (inside, ~inside):
        size = round(effective_size(right[part], None if units is None else units[part])) if part.any() else 0
        found += [round(float(right[part].mean()) * size) if size else 0, size]
    return fisher_exact(*found)


def _labels(values: list[Any]) -> list[str]:
    """Return the slice of each value: itself, or of numbers with many values the quarter that it lies in."""
    present = [value for value in values if value is not None]
    numbers = [_number(value) for value in present]
    if len(set(numbers)) <= MAX_NUMBERS or any(number is None for number in numbers):
        return [MISSING if value is None else _text(value) for value in values]
    found = np.array(numbers, np.float64)
    quarter = np.searchsorted(np.quantile(found, [0.25, 0.5, 0.75]), found)
    ends = {index: (found[quarter == index].min(), found[quarter == index].max()) for index in np.unique(quarter)}
    ranges = {index: f"{_text(low)} to {_text(high)}" for index, (low, high) in ends.items()}
    if len(set(ranges.values())) < len(ranges):  # six digits do not tell them apart, as of times in seconds
        ranges = {index: f"{low:.17g} to {high:.17g}" for index, (low, high) in ends.items()}
    named = iter(ranges[index] for index in quarter.tolist())
    return [MISSING if value is None else next(named) for value in values]


def _number(value: Any) -> float | None:
    """Return a finite number, or None; `007` is a name."""
    if isinstance(value, (bool, *_SEVERAL)) or (isinstance(value, str) and re.match(r"\s*[+-]?0\d", value)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_missing(value: Any) -> bool:
    """Whether there is no value: None, empty text, not-a-number, or what pandas writes for a missing one."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, _SEVERAL):  # a cell of a Parquet file may hold several things
        return False
    return not value.strip() if isinstance(value, str) else bool(value != value)


def _text(value: Any) -> str:
    """Return a value as people write it: 3.0, which a missing cell beside it made of 3, is 3 again."""
    if not isinstance(value, float):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
