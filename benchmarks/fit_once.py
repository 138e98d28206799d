"""Fit once: `python fit_once.py DATA PARAMETERS` (a JSON object) prints what came out as one JSON line.

Freed memory is kept and threads spin briefly, as the command `headstart fit` does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from headstart import ImageClassifier
from headstart.cli.process import keep_freed_memory, spin_briefly
from headstart.core.progress import Progress, Update


class Steps(Progress):
    """Keeps the time of every step apart, also of those that share a name."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, float, int | None]] = []

    @contextmanager
    def _shown(self, name: str, total: int | None, unit: str) -> Iterator[Update]:
        start = time.perf_counter()
        try:
            yield lambda done, words="": None
        finally:
            self.all.append((name, time.perf_counter() - start, total))


def main(data: str, parameters: str) -> None:
    """Fit and print."""
    spin_briefly()  # `headstart` imports no torch
    keep_freed_memory()
    steps = Steps()
    classifier = ImageClassifier(**json.loads(parameters)).fit(data, progress=steps)
    result = {
        "accuracy": classifier.test_.figures["accuracy"].value,
        "steps": steps.all,
        "history": classifier.history_.to_dict("records"),
        "counts": classifier.counts_,
        "notes": classifier.notes_,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
