"""Peak memory of extraction: 20,000 generated pictures may need no more than 200 MB above 2,000.

Each in a process of its own with an empty cache, at 64 px, so that it is the count that matters. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from harness import FULL, Effort, empty_cache
from rows import Row, row

# Runs in a process of its own, so that its peak is its own.
CODE = """
import sys
import cv2, numpy as np
from pathlib import Path
from headstart.networks import load_backbone
from headstart.learn.features.extract import extract
folder, count = Path(sys.argv[1]), int(sys.argv[2])
files = sorted(str(path) for path in folder.iterdir())[:count]
extract(files, load_backbone("efficientnet_lite0", image_size=64))
# Not getrusage: its peak is inherited from the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 1024)
"""


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return the peaks and their difference."""
    few, many = (20, 200) if effort.quick else (2_000, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "pictures", many)
        peaks = {count: peak(folder, count) for count in (few, many)}
    return [
        *(row(f"peak memory extracting {count:,} pictures", [value], "MB") for count, value in peaks.items()),
        row(f"peak memory: {many:,} above {few:,}", [peaks[many] - peaks[few]], "MB", at_most=200),
    ]


def peak(folder: str, count: int) -> float:
    """Return the peak resident memory of extracting `count` pictures with an empty cache, in MB."""
    command = [sys.executable, "-c", CODE, f"{folder}/pictures", str(count)]
    with empty_cache():
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write_pictures(folder: Path, count: int) -> None:
    """Write different JPEGs of 160 x 120 pixels."""
    import cv2
    import numpy as np

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:05}.jpg"), cv2.resize(small, (160, 120)))
