"""Rows of the benchmark table: measured values beside their targets, as JSON and as a table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"


@dataclass(frozen=True)
class Row:
    """One measured figure: its median (or mean), the range of the runs, and what was aimed at.

    Attributes:
        name: What was measured; a new row of this name replaces the old one in `results.json`.
        value, low, high: None where it could not be measured.
        met: Whether the target was reached; None without a target or without a value.
        note: Versions of what was compared, or why there is no value.
        benchmark: The module that measured it; set when it is saved.
        machine: Processor and day; set when it is saved.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    target: str = ""
    met: bool | None = None
    note: str = ""
    benchmark: str = ""
    machine: str = ""


def row(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    middle: Callable[[Sequence[float]], float] = statistics.median,
    note: str = "",
) -> Row:
    """Return a row of several runs' values, judged against a bound.

    Raises:
        ValueError: A value is not a finite number: what was measured is not what was meant.
    """
    if not all(math.isfinite(one) for one in values):
        raise ValueError(f"{name}: measured {list(values)}, expected finite numbers.")
    value = float(middle(values))
    target, met = "", None
    if at_least is not None:
        target, met = f">= {at_least:g}", value >= at_least
    if at_most is not None:
        target, met = f"<= {at_most:g}", value <= at_most
    return Row(name, value, float(min(values)), float(max(values)), unit, target, met, note)


def not_measured(
    name: str, reason: str, unit: str = "", *, at_least: float | None = None, at_most: float | None = None
) -> Row:
    """Return the row of something that could not be measured; it is neither met nor missed."""
    target = "" if at_least is None else f">= {at_least:g}"
    target = target if at_most is None else f"<= {at_most:g}"
    return Row(name, None, None, None, unit, target, None, f"not measured: {reason}")


def save(rows: Sequence[Row], file: Path | None = None) -> None:
    """Merge rows into `results.json` by name; earlier rows of other benchmarks stay.

    A row without a value does not replace one that was measured before.
    """
    file = file or RESULTS
    merged = {one["name"]: one for one in (json.loads(file.read_text()) if file.exists() else [])}
    for one in rows:
        if one.value is not None or merged.get(one.name, {}).get("value") is None:
            merged.pop(one.name, None)
            merged[one.name] = asdict(one)
    file.write_text(json.dumps(list(merged.values()), indent=1) + "\n")


def show(rows: Sequence[Row]) -> None:
    """Print rows as they come."""
    for one in rows:
        if one.value is None or one.low is None or one.high is None:
            print(f"{one.name:<70} {one.note}", flush=True)
            continue
        verdict = "" if one.met is None else ("  met" if one.met else "  MISSED")
        spread = f"({one.low:.3g} to {one.high:.3g})" if one.low != one.high else ""
        print(f"{one.name:<70} {one.value:>9.4g} {one.unit:<12} {spread:<22} {one.target:<10}{verdict}", flush=True)
