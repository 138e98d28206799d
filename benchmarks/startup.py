"""How soon the first answer comes: `import headstart`, `--help`, and `predict` from a cold start.

Wall times of whole processes; the files are in the file cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import FULL, Effort, empty_cache
from rows import Row, row

RUNS = 7


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return wall times of whole processes."""
    from headstart import ImageClassifier

    runs = 1 if effort.quick else RUNS
    with tempfile.TemporaryDirectory() as folder, empty_cache():
        model = ImageClassifier(method="frozen").fit(data / "hymenoptera").save(f"{folder}/model")
        picture = str(sorted((data / "hymenoptera/val/ants").iterdir())[0])
        run = [sys.executable, "-m", "headstart"]
        bare = timed([sys.executable, "-c", "pass"], runs)
        imported = timed([sys.executable, "-c", "import headstart"], runs)
        return [
            row(
                "import headstart, beyond an empty Python",
                [a - b for a, b in zip(imported, bare, strict=True)],
                "s",
                at_most=0.15,
            ),
            row("headstart --help", timed([*run, "--help"], runs), "s", at_most=0.4),
            row(
                "headstart predict MODEL one.jpg", timed([*run, "predict", str(model), picture], runs), "s", at_most=1.5
            ),
        ]


def timed(command: list[str], runs: int) -> list[float]:
    """Return the wall times of several runs of a command, after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return times[1:]
