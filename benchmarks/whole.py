"""Folder to tested model in a fresh process: with an empty cache, and again with a warm one.

`headstart fit hymenoptera --method frozen` from start to end, imports included, and what the time goes to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import FULL, Effort, empty_cache
from rows import Row, row


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return wall times, and what they go to."""
    cold, warm, work, steps = [], [], [], dict[str, list[float]]()
    for _ in effort.seeds:
        with tempfile.TemporaryDirectory() as folder, empty_cache():
            seconds, result = fit(data / "hymenoptera", folder)
            cold.append(seconds)
            for name, value in {
                **result["seconds"],
                "start and end": seconds - sum(result["seconds"].values()),
            }.items():
                steps.setdefault(name, []).append(value)
            seconds, result = fit(data / "hymenoptera", folder)
            warm.append(seconds)
            work.append(sum(result["seconds"].values()) - result["seconds"]["import libraries"])
    return [
        row("hymenoptera: folder to tested model, empty cache", cold, "s", at_most=12),
        *(row(f"  of that: {name}", values, "s") for name, values in steps.items()),
        row("hymenoptera: the same again, warm cache", warm, "s"),
        row("hymenoptera: warm cache, beyond imports", work, "s", at_most=3),
    ]


def fit(data: Path, folder: str) -> tuple[float, dict]:
    """Run `headstart fit` and return its wall time and its JSON."""
    command = [sys.executable, "-m", "headstart", "fit", str(data), "--method", "frozen", "--out", f"{folder}/model"]
    start = time.perf_counter()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, json.loads(done.stdout)
