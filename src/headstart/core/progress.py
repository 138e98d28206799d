"""How long work reports what it does: steps with a count, and notes. Silent here; the command line draws it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Times every step and shows nothing; subclasses show.

    Attributes:
        seconds: Wall time of each step so far, by name, in order of first use.
        notes: What the user should know, one sentence each.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "pictures") -> Iterator[Callable[[int], None]]:
        """Time a named step; call what it gives with the number of `unit` done so far."""
        start = time.perf_counter()
        try:
            with self._shown(name, total, unit) as update:
                yield update
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def note(self, text: str) -> None:
        """Tell the user one sentence."""
        self.notes.append(text)

    @contextmanager
    def _shown(self, name: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        yield lambda done: None
