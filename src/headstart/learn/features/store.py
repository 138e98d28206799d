"""The feature cache: one LMDB file per kind of feature, safe against kill -9 and two runs at once.

A kind of feature ("space") is all that determines the numbers besides the picture: weights, layers,
preprocessing, precision. Inside, the key is the digest of the picture's bytes and of the view. LMDB commits are
atomic, so an interrupted run continues with what it had written.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from headstart.core import settings
from headstart.core.errors import CacheError, cache_unwritable
from headstart.learn.runs import list_runs

IN_USE_SECONDS = 3600.0
REFUSED = "refused"
# Graphs of networks, what the audit found out of pictures, ImageNet's classifiers, and what trials of speed found.
OTHERS = ("graphs", "records", "imagenet", "precision")

_open_stores: dict[Path, tuple[Any, int]] = {}
_lock = threading.Lock()


class Store:
    """Arrays of one shape and dtype by key, in one LMDB file; a context manager.

    Args:
        name: Identity of the space; names its folder.
        about: What the space holds, for `headstart cache`; plain values.
        shape: Shape of one array.
        dtype: `float32` or `float16`.

    Raises:
        CacheError: The cache folder cannot be written.
    """

    def __init__(
        self, name: str, about: dict[str, Any], shape: tuple[int, ...], dtype: np.typing.DTypeLike = "float32"
    ) -> None:
        self.folder = settings.cache_folder() / "features" / name
        self.about = about
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __enter__(self) -> Store:
        self._environment = open_environment(self.folder)
        description = self.folder / "about.json"
        try:
            if not description.exists():
                _write_atomically(
                    description, json.dumps({**self.about, "shape": self.shape, "dtype": self.dtype.name})
                )
            os.utime(description)  # when it was last used
        except OSError as error:
            close_environment(self.folder)
            raise cache_unwritable(self.folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_environment(self.folder)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Return the positions of the keys that are not stored."""
        with self._environment.begin(buffers=True) as transaction:
            return [i for i, key in enumerate(keys) if not self._valid(transaction.get(key))]

    def read(self, keys: Sequence[bytes]) -> np.ndarray:
        """Return the stored arrays, `(len(keys), *shape)`.

        Raises:
            CacheError: One of them is not there.
        """
        out = np.empty((len(keys), *self.shape), self.dtype)
        with self._environment.begin(buffers=True) as transaction:
            for row, key in enumerate(keys):
                value = transaction.get(key)
                if not self._valid(value):
                    raise CacheError(
                        f"{self.folder} lacks a feature that was just there. Do not clear it during a run."
                    )
                out[row] = np.frombuffer(value, self.dtype).reshape(self.shape)
        return out

    def write(self, items: Sequence[tuple[bytes, np.ndarray]]) -> None:
        """Store arrays in one atomic commit.

        Raises:
            CacheError: The disk or the cache's limit is full; what was stored before stays.
        """
        put(
            self._environment,
            self.folder,
            [(key, np.ascontiguousarray(value, self.dtype).tobytes()) for key, value in items],
        )

    @property
    def refused(self) -> bool:
        """Whether features in its precision were once found to differ too much from torch's in float32."""
        return (self.folder / REFUSED).is_file()

    def refuse(self) -> None:
        """Remember that, until the space is deleted.

        Raises:
            CacheError: The cache folder cannot be written.
        """
        try:
            (self.folder / REFUSED).touch()
        except OSError as error:
            raise cache_unwritable(self.folder, error) from error

    def _valid(self, value: Any) -> bool:
        return value is not None and len(value) == self.dtype.itemsize * int(np.prod(self.shape))


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


def open_environment(folder: Path) -> Any:
    """Open an LMDB environment; it may not be opened twice in one process, so openings are counted.

    Raises:
        CacheError: The folder cannot be written.
    """
    import lmdb

    with _lock:
        environment, users = _open_stores.get(folder, (None, 0))
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
        _open_stores[folder] = (environment, users + 1)
        return environment


def close_environment(folder: Path) -> None:
    """Undo one `open_environment`."""
    with _lock:
        environment, users = _open_stores[folder]
        if users > 1:
            _open_stores[folder] = (environment, users - 1)
        else:
            environment.close()
            del _open_stores[folder]


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@dataclass(frozen=True)
class StoredSpace:
    """One space of the cache: its folder, what it holds, its size in bytes and when it was last used (Unix time)."""

    folder: Path
    about: dict[str, Any]
    size: int
    last_used: float
    entries: int


def list_spaces() -> list[StoredSpace]:
    """Return the spaces of the cache, the most recently used first."""
    spaces = []
    for description in (settings.cache_folder() / "features").glob("*/about.json"):
        try:
            about = json.loads(description.read_text(encoding="utf-8"))
            with _opened(description.parent) as environment:
                pages, state = environment.info()["last_pgno"] + 1, environment.stat()
            size = pages * state["psize"]
            spaces.append(StoredSpace(description.parent, about, size, description.stat().st_mtime, state["entries"]))
        except (OSError, ValueError, CacheError):  # vanished, half written or damaged: `clear` removes it
            continue
    return sorted(spaces, key=lambda space: -space.last_used)


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    environment = open_environment(folder)
    try:
        yield environment
    finally:
        close_environment(folder)


def other_sizes() -> dict[str, int]:
    """Return the bytes of what is cached besides features and runs, by kind."""
    return {kind: sum(map(_disk_size, (settings.cache_folder() / kind).glob("*"))) for kind in OTHERS}


def clear(older_than_days: float = 0.0) -> int:
    """Delete what is cached (all, or what was not used for some days) and return the bytes freed, about.

    Runs, which are hours of work, are left: see `clear_runs`.
    """
    freed = 0
    for kind in ("features", *OTHERS):
        for path in (settings.cache_folder() / kind).glob("*"):
            used = path / "about.json"
            age = time.time() - (used if used.exists() else path).stat().st_mtime
            if age >= older_than_days * 86400:
                freed += _disk_size(path)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
    return freed


def _disk_size(path: Path) -> int:
    """Return the bytes of a file or folder; of LMDB's sparse files, those that are used."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        with suppress(OSError):  # vanished meanwhile
            if file.is_file():
                found = file.stat()
                total += min(found.st_size, getattr(found, "st_blocks", found.st_size) * 512)
    return total


def room() -> int:
    """Return how many bytes the limit leaves for features.

    Runs and what else is cached are taken off, since they are not deleted to make room; spaces are, sooner or later.
    """
    others = sum(run.size for run in list_runs()) + sum(other_sizes().values())
    return max(0, settings.cache_limit() - others)


def make_room(needed: int, keep: Path) -> int:
    """Delete the least recently used spaces until `needed` more bytes fit the limit; return the bytes freed.

    The space in the folder `keep` and those used within the last hour are never deleted: another run may read them.
    What would not fit even an empty cache costs no space its place.
    """
    spaces, most = list_spaces(), room()
    excess = sum(space.size for space in spaces) + (needed if needed <= most else 0) - most
    freed = 0
    for space in reversed(spaces):
        if freed >= excess:
            break
        if space.folder != keep and time.time() - space.last_used > IN_USE_SECONDS:
            shutil.rmtree(space.folder, ignore_errors=True)
            freed += space.size
    return freed
