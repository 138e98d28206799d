"""Errors that several places raise: their words."""

from __future__ import annotations

import pytest

from headstart.core.errors import CacheError, cache_unwritable


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/cache/.part"), "No space left on device"),
        (OSError("the disk says nothing more"), "the disk says nothing more"),
        (RuntimeError("unexpected pos 64 vs 0"), "unexpected pos 64 vs 0"),
    ],
)
def test_what_the_cache_does_not_take_is_told_with_the_reason_and_what_to_do(error: Exception, reason: str) -> None:
    told = cache_unwritable("the checkpoint in /cache/runs", error)
    assert isinstance(told, CacheError)
    assert str(told) == (
        f"the checkpoint in /cache/runs cannot be written: {reason}. Free some space or set HEADSTART_CACHE."
    )
