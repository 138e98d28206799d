"""How long `headstart compare` of three heads takes when the features are in the cache.

Wall time of the whole process, imports, the measurement of speed and the picture included; 5 x 5 folds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import FULL, Effort, empty_cache
from rows import Row, row

HEADS = "linear,mlp,prototype"
BOUNDS = {
    "compare three heads on cached features, hymenoptera (245 pictures)": 20.0,
    "compare three heads on cached features, catdog (1,119 pictures)": 40.0,
}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return one row a data set, after a run that fills the cache and is not counted."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, empty_cache():
        for (title, bound), name in zip(BOUNDS.items(), ("hymenoptera", "catdog"), strict=True):
            command = [sys.executable, "-m", "headstart", "compare", str(data / name), "--quiet"]
            command += ["--picture", f"{folder}/picture.png"]
            subprocess.run([*command, "--heads", "prototype"], check=True, capture_output=True)
            times = []
            for _ in range(1 if effort.quick else effort.runs):
                start = time.perf_counter()
                subprocess.run([*command, "--heads", HEADS], check=True, capture_output=True)
                times.append(time.perf_counter() - start)
            rows.append(row(title, times, "s", at_most=bound))
    return rows
