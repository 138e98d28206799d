"""Accuracy of a head on the frozen default backbone, mean over five seeds.

Hymenoptera keeps its own test set, catdog is split 70/30 by the seed.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from harness import FULL, Effort
from rows import Row, row

SEEDS = 5
BOUNDS = {
    "hymenoptera: test accuracy, mean of 5 seeds": 0.955,
    "catdog: test accuracy, mean of 5 seeds": 0.99,
}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return one row a data set; `low` and `high` are the range over seeds."""
    from headstart import ImageClassifier

    rows = []
    for (title, bound), name, test_size in zip(BOUNDS.items(), ("hymenoptera", "catdog"), (0.2, 0.3), strict=True):
        values = [
            ImageClassifier(method="frozen", seed=seed, test_size=test_size)
            .fit(data / name)
            .test_.figures["accuracy"]
            .value
            for seed in range(1 if effort.quick else SEEDS)
        ]
        rows.append(row(title, values, "", at_least=bound, middle=statistics.mean))
    return rows
