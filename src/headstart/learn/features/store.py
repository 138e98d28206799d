"""The feature cache: one LMDB file per kind of feature, safe against kill -9 and two runs at once.

A kind of feature ("space") is all that determines the numbers besides the picture: weights, layers,
preprocessing, precision. Inside, the key is the digest of the picture's bytes and of the view. LMDB commits are
atomic, so an interrupted run continues with what it had written.
"""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from headstart.core import settings
from headstart.core.errors import CacheError, cache_unwritable
from headstart.core.replacing import lock, new_file
from headstart.learn.database import close_environment, open_environment, put

REFUSED = "refused"
# LMDB keeps an array of half a page or more in pages of its own.
_PAGE = 4096


class Store:
    """Arrays of one shape and dtype by key, in one LMDB file; a context manager.

    From when it is first opened, as long as the object lives, no other run deletes the space for features of its own.

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
        self._held: weakref.finalize[[int], Store] | None = None

    def __enter__(self) -> Store:
        self._hold()
        self._environment = open_environment(self.folder)
        description = self.folder / "about.json"
        try:
            if not description.exists():
                about = {**self.about, "shape": self.shape, "dtype": self.dtype.name}
                with new_file(description) as temporary:
                    temporary.write_text(json.dumps(about), encoding="utf-8")
            os.utime(description)  # when it was last used
        except OSError as error:
            close_environment(self.folder)
            raise cache_unwritable(self.folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_environment(self.folder)

    def let_go(self) -> None:
        """Let any run delete the space until it is opened again."""
        if self._held is not None:
            self._held()
        self._held = None

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

    def _hold(self) -> None:
        with suppress(OSError):  # opening tells it
            descriptor = _shared_lock(self.folder) if self._held is None else None
            if descriptor is not None:
                self._held = weakref.finalize(self, os.close, descriptor)

    def _valid(self, value: Any) -> bool:
        return value is not None and len(value) == self.dtype.itemsize * int(np.prod(self.shape))


def size_of(shape: tuple[int, ...]) -> int:
    """Return the bytes that a float32 array takes in a space."""
    size = 4 * int(np.prod(shape)) + 16
    return size if size < _PAGE // 2 else -(-size // _PAGE) * _PAGE


def _shared_lock(folder: Path) -> int | None:
    """Return a descriptor that locks the folder that stands there now, which another run may just be deleting."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = lock(folder, shared=True)
            if descriptor is None or os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
            os.close(descriptor)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            time.sleep(0.01)
