"""How fast a backbone makes features here: a short measurement on some of the user's pictures, past the cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.core.pipeline import chunked, map_ordered
from headstart.core.predictor import BATCH_SIZE
from headstart.core.progress import Progress
from headstart.learn.features.extract import FeatureSettings, open_engine, see
from headstart.learn.features.pictures import Pictures
from headstart.networks import Backbone

ROUNDS, SECONDS, FEWEST, MOST = 3, 0.5, 8, 64


@dataclass(frozen=True)
class Speed:
    """How fast features are made: read, decoded, resized and run through the network on every core.

    Attributes:
        pictures_per_second: Median of a few rounds.
        low, high: Slowest and fastest round.
        engine: What ran the network, such as `openvino float32`.
    """

    pictures_per_second: float
    low: float
    high: float
    engine: str


def measure_speeds(pictures: Pictures, networks: Sequence[tuple[Backbone, FeatureSettings]]) -> list[Speed]:
    """Extract features of a few pictures without the cache, as `extract` would, and take the time.

    The networks take turns in each round, so that other work on the machine slows all of them alike.

    Args:
        pictures: Pictures that can be read; some of them are taken, spread over the whole.
        networks: Frozen networks, each with its device and precision.

    Raises:
        ImageError: A picture has changed since its digest was taken.
    """
    trials = [_Trial(pictures, backbone, how) for backbone, how in networks]
    rounds = [[trial.rate(trial.count) for trial in trials] for _ in range(ROUNDS)]
    return [
        Speed(statistics.median(rates), min(rates), max(rates), f"{trial.engine.name} {trial.engine.precision}")
        for trial, rates in zip(trials, zip(*rounds, strict=True), strict=True)
    ]


class _Trial:
    """A warm engine with its preprocessing, and how many pictures make a round of about half a second."""

    def __init__(self, pictures: Pictures, backbone: Backbone, how: FeatureSettings) -> None:
        self._rows = np.linspace(0, len(pictures) - 1, min(MOST, len(pictures))).astype(int).tolist()
        self._pictures, self._backbone, self._how = pictures, backbone, how
        few = pictures.some(self._rows[:BATCH_SIZE])
        self.engine, _ = open_engine(few.items, backbone, how, None, Progress())
        # In whole batches for each worker, so that none waits for another.
        step = BATCH_SIZE * self.engine.workers
        wanted = min(MOST, max(FEWEST, self.rate(step) * SECONDS))
        self.count = max(step, round(wanted / step) * step)

    def rate(self, count: int) -> float:
        """Return how many pictures a second go through, measured on `count` of them."""
        rows = [self._rows[index % len(self._rows)] for index in range(count)]
        start = time.perf_counter()
        for _ in map_ordered(self._run, chunked(rows, BATCH_SIZE), workers=self.engine.workers):
            pass
        return count / (time.perf_counter() - start)

    def _run(self, rows: list[int]) -> None:
        items, digests = self._pictures.items, self._pictures.digests
        seen = [see(items[row], digests[row], [0], self._backbone, self._how)[0] for row in rows]
        self.engine.run(np.stack(seen))
