"""What a quantised model costs and gains: accuracy before and after on the same pictures, speed, size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.core.answers import Thresholds
from headstart.core.calibration import prediction_sets
from headstart.core.intervals import wilson
from headstart.core.metrics import Figure
from headstart.core.pipeline import map_ordered
from headstart.core.predictor import BATCH_SIZE
from headstart.core.significance import mcnemar
from headstart.use.exporters.contract import Run


@dataclass(frozen=True)
class BeforeAndAfter:
    """Two networks on the same pictures.

    Attributes:
        n: Pictures that were named by both; none of them was calibrated on.
        measured_on: What is known of them: whether the model learned from any.
        before, after: Accuracy with its 95 % interval.
        change: After minus before.
        p: Of McNemar's exact test that the change is chance.
        speed: Pictures/s of the two networks alone, preprocessed pictures in.
        size: Bytes of the two.
        covered: Share of the pictures whose class is in the second one's prediction set; None where it has no sets.
        set_size: Mean size of these sets.
        alarms: Share of the pictures that the second one calls unknown; None where it never does.
    """

    n: int
    measured_on: str
    before: Figure
    after: Figure
    change: float
    p: float
    speed: tuple[float, float]
    size: tuple[int, int]
    covered: Figure | None = None
    set_size: float | None = None
    alarms: Figure | None = None


def compare(
    targets: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    novelty: np.ndarray | None,
    thresholds: Thresholds,
    measured_on: str,
    speed: tuple[float, float],
    size: tuple[int, int],
) -> BeforeAndAfter:
    """Return the comparison of two networks' probabilities `(n, c)` on pictures of the classes `targets (n,)`.

    Args:
        targets: Indices of the classes.
        before: Probabilities of the first.
        after: Those of the second.
        novelty: `(n,)`, of the second.
        thresholds: Of the model.
        measured_on: See `BeforeAndAfter`.
        speed: Of the two.
        size: Of the two.
    """
    right = [probabilities.argmax(axis=1) == targets for probabilities in (before, after)]
    change, p = mcnemar(*right)
    covered = set_size = alarms = None
    if thresholds.set_probability is not None:
        sets = prediction_sets(after, thresholds.set_probability)
        covered, set_size = _share(sets[np.arange(len(targets)), targets]), float(sets.sum(axis=1).mean())
    if novelty is not None and thresholds.novelty is not None:
        alarms = _share(novelty > thresholds.novelty)
    first, second = (_share(one) for one in right)
    return BeforeAndAfter(len(targets), measured_on, first, second, change, p, speed, size, covered, set_size, alarms)


def _share(true: np.ndarray) -> Figure:
    return Figure(float(true.mean()), *wilson(int(true.sum()), len(true)))


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
