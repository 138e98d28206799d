"""LMDB files of the cache: each open once in a process, however many use it; written in atomic commits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headstart.core import settings
from headstart.core.errors import CacheError, cache_unwritable

_open: dict[Path, tuple[Any, int]] = {}
_lock = threading.Lock()


def open_environment(folder: Path) -> Any:
    """Open an LMDB environment; it may not be opened twice in one process, so openings are counted.

    Raises:
        CacheError: The folder cannot be written.
    """
    import lmdb

    with _lock:
        environment, users = _open.get(folder, (None, 0))
        if environment is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                environment = lmdb.open(
                    str(folder), map_size=settings.cache_limit(), metasync=False, max_readers=512, max_spare_txns=8
                )
            except (lmdb.Error, OSError) as error:
                raise CacheError(
                    f"the feature cache {folder} cannot be opened: {error}. "
                    "Set HEADSTART_CACHE to a folder that can be written."
                ) from error
        _open[folder] = (environment, users + 1)
        return environment


def close_environment(folder: Path) -> None:
    """Undo one `open_environment`."""
    with _lock:
        environment, users = _open[folder]
        if users > 1:
            _open[folder] = (environment, users - 1)
        else:
            environment.close()
            del _open[folder]


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """Give an LMDB environment until the block ends.

    Raises:
        CacheError: The folder cannot be written.
    """
    environment = open_environment(folder)
    try:
        yield environment
    finally:
        close_environment(folder)


def put(environment: Any, folder: Path, items: Sequence[tuple[bytes, bytes]]) -> None:
    """Store values in one atomic commit.

    Raises:
        CacheError: The disk or the cache's limit is full; what was stored before stays.
    """
    import lmdb

    try:
        with environment.begin(write=True) as transaction:
            for key, value in items:
                transaction.put(key, value)
    except lmdb.MapFullError:
        raise CacheError(
            f"{folder} has reached the cache's limit. Clear old features with `headstart cache --clear`, "
            "or raise HEADSTART_CACHE_LIMIT."
        ) from None
    except (lmdb.Error, OSError) as error:
        raise cache_unwritable(folder, error) from error
