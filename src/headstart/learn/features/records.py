"""What the audit found out about a picture's bytes, kept by content so that a second run need not decode again."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import Any

from headstart.core import settings
from headstart.learn.database import close_environment, open_environment, put

# Part of the file's name: raise it when the meaning of a record changes.
VERSION = 1


class Records(MutableMapping[str, dict[str, Any]]):
    """A mapping from a picture's digest to a plain dictionary, in LMDB; a context manager.

    What is set is written when the block ends, in one commit.

    Raises:
        CacheError: The cache folder cannot be written.
    """

    def __enter__(self) -> Records:
        self._folder = settings.cache_folder() / "records" / f"v{VERSION}"
        self._environment = open_environment(self._folder)
        self._new: dict[str, dict[str, Any]] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            items = [(digest.encode(), json.dumps(record).encode()) for digest, record in self._new.items()]
            put(self._environment, self._folder, items)
        finally:
            close_environment(self._folder)

    def __getitem__(self, digest: str) -> dict[str, Any]:
        if digest in self._new:
            return self._new[digest]
        with self._environment.begin() as transaction:
            value = transaction.get(digest.encode())
        if value is None:
            raise KeyError(digest)
        return dict(json.loads(value))

    def __setitem__(self, digest: str, record: dict[str, Any]) -> None:
        self._new[digest] = record

    def __delitem__(self, digest: str) -> None:
        raise TypeError("records are never deleted singly; `headstart cache --clear` deletes all")

    def __iter__(self) -> Iterator[str]:
        with self._environment.begin() as transaction:
            stored = [key.decode() for key, _ in transaction.cursor()]
        return iter([*stored, *(digest for digest in self._new if digest not in stored)])

    def __len__(self) -> int:
        return sum(1 for _ in self)
