"""What a quantised model costs and gains: accuracy before and after on the same pictures, speed, size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.core.metrics import Figure, mcnemar, wilson
from headstart.core.pipeline import map_ordered
from headstart.core.predictor import BATCH_SIZE
from headstart.use.exporters.contract import Run


@dataclass(frozen=True)
class BeforeAndAfter:
    """Two networks on the same pictures.

    Attributes:
        n: Pictures that were named by both; none of them was trained or calibrated on.
        before, after: Accuracy with its 95 % interval.
        change: After minus before.
        p: Of McNemar's exact test that the change is chance.
        speed: Pictures/s of the two networks alone, preprocessed pictures in.
        size: Bytes of the two.
    """

    n: int
    before: Figure
    after: Figure
    change: float
    p: float
    speed: tuple[float, float]
    size: tuple[int, int]


def compare(
    targets: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    speed: tuple[float, float],
    size: tuple[int, int],
) -> BeforeAndAfter:
    """Return the comparison of two networks' probabilities `(n, c)` on pictures of the classes `targets (n,)`."""
    right = [probabilities.argmax(axis=1) == targets for probabilities in (before, after)]
    figures = [Figure(float(one.mean()), *wilson(int(one.sum()), len(one))) for one in right]
    change, p = mcnemar(*right)
    return BeforeAndAfter(len(targets), figures[0], figures[1], change, p, speed, size)


def pictures_per_second(runs: Sequence[Run], images: np.ndarray, *, workers: int, seconds: float = 1.0) -> list[float]:
    """Return how many pictures each function takes a second, measured in turns so that all meet the same machine.

    Args:
        runs: uint8 `(n, h, w, 3)` in.
        images: Some to run on, again and again.
        workers: Calls side by side.
        seconds: At least so long each.
    """
    batches = [np.ascontiguousarray(images[:BATCH_SIZE])] * 8
    for run in runs:
        list(map_ordered(run, batches, workers))
    done, taken = [0] * len(runs), [0.0] * len(runs)
    while min(taken) < seconds:
        for index, run in enumerate(runs):
            start = time.perf_counter()
            done[index] += sum(1 for _ in map_ordered(run, batches, workers)) * len(batches[0])
            taken[index] += time.perf_counter() - start
    return [count / time_ for count, time_ in zip(done, taken, strict=True)]


def folder_size(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
