"""Write the measured table as Markdown: `python benchmarks/table.py > docs/benchmarks.md`."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from rows import RESULTS
from run import BENCHMARKS, PEERS

HEAD = """# Benchmarks

Both sides of every comparison run in turn on the same machine, on the pictures of `../shared/data`. A value is the
median of the runs (the mean, where it says so), with their range. Made by these commands; do not edit by hand:

```bash norun: more than an hour, on a machine that does nothing else
make bench
make bench-peers
.venv/bin/python benchmarks/table.py > docs/benchmarks.md
```
"""


def main() -> None:
    """Print the page."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    print(page(rows), end="")


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page of the saved rows, a section for each benchmark, in the order in which they run."""
    parts = [HEAD]
    judged = [one for one in rows if one["target"]]
    met = sum(one["met"] is True for one in judged)
    unmeasured = sum(one["met"] is None for one in judged)
    parts.append(
        f"{met} of {len(judged)} targets are met" + (f"; {unmeasured} not measured.\n" if unmeasured else ".\n")
    )
    for name in (*BENCHMARKS, *PEERS):
        chosen = [one for one in rows if one.get("benchmark") == name]
        if chosen:
            parts.append(section(name, chosen))
    return "\n".join(parts)


def section(name: str, rows: list[dict[str, Any]]) -> str:
    """Return one benchmark's heading, what it compares (its module's docstring), and its table."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    lines = [f"## {name}", "", ast.get_docstring(ast.parse(source)) or "", ""]
    lines += [f"On {machine}." for machine in dict.fromkeys(one["machine"] for one in rows if one["machine"])]
    lines += ["", "| | value | range | target | |", "|---|---:|---|---|---|"]
    lines += [
        "| " + " | ".join([one["name"].strip(), measured(one), spread(one), one["target"], verdict(one)]) + " |"
        for one in rows
    ]
    notes = list(dict.fromkeys(one["note"] for one in rows if one["note"]))
    return "\n".join([*lines, "", *(f"{note[0].upper()}{note[1:]}." for note in notes), ""])


def measured(one: dict[str, Any]) -> str:
    """Return the value with its unit."""
    return f"{number(one['value'])} {one['unit']}".strip()


def number(value: float | None) -> str:
    """Return a value with three figures, or a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(one: dict[str, Any]) -> str:
    """Return the range of the runs, empty for one run."""
    return "" if one["low"] is None or one["low"] == one["high"] else f"{number(one['low'])} to {number(one['high'])}"


def verdict(one: dict[str, Any]) -> str:
    """Return whether the target was met, in words."""
    if one["value"] is None:
        return "not measured"
    return "" if one["met"] is None else "met" if one["met"] else "**missed**"


if __name__ == "__main__":
    main()
