"""How long work reports what it does: steps with a count, and notes. Silent here; the command line draws it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

# What a user may have called with each epoch's row: its figures, and as `stage` of what, `head` or `finetune`.
OnEpoch = Callable[[dict[str, Any]], None]


class Update(Protocol):
    """Tells how far a step has come."""

    def __call__(self, done: int, words: str = "") -> None:
        """Say how many are done, and a few words that take the place of the step's name."""
        ...


class Progress:
    """Times every step and shows nothing; subclasses show.

    Attributes:
        seconds: Wall time of each step so far, by name, in order of first use.
        notes: What the user should know, one sentence each.
        reported: Those of them that are about the data or the result, and so belong into a report of it; the others
            are about how this machine and this run got there.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.reported: list[str] = []

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "pictures") -> Iterator[Update]:
        """Time a named step; call what it gives with the number of `unit` done so far."""
        start = time.perf_counter()
        try:
            with self._shown(name, total, unit) as update:
                yield update
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def note(self, text: str, *, report: bool = False) -> None:
        """Tell the user one sentence; `report` is for one about the data or the result."""
        self.notes.append(text)
        if report and text not in self.reported:
            self.reported.append(text)

    def epoch(self, row: Mapping[str, Any], epochs: int) -> None:
        """Tell the user of an epoch that is done.

        Args:
            row: Its number from 1 (`epoch`), and its figures by name; `stage` where there are epochs of several things.
            epochs: How many there will be.
        """

    @contextmanager
    def _shown(self, name: str, total: int | None, unit: str) -> Iterator[Update]:
        yield lambda done, words="": None
