"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60  # on a busy machine


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; what is shown is that it comes, not when."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
