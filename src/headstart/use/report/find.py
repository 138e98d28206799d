"""Finding again the pictures that a model folder knows by the last parts of their paths and by their digests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from headstart.core import digests
from headstart.core.errors import ImageError
from headstart.core.text import count, short_name, shown


class Finder:
    """Tells where a test picture is; called with its name and, where the model knows it, its digest.

    A picture is known by its content. An older model has names alone: where several pictures have one
    (`train/ants/1.jpg`, `val/ants/1.jpg`), it is the one that was not learned from, if that is one.

    Args:
        paths: Where pictures are.
        learned_from: Digests of the pictures that the model has learned from, shortened.

    Attributes:
        ambiguous: How many pictures were not found because several have their name.
    """

    def __init__(self, paths: Iterable[str], learned_from: Collection[str]) -> None:
        self.ambiguous = 0
        self._learned_from = learned_from
        self._named: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._named[short_name(path).encode("utf-8", "backslashreplace").decode()].append(path)

    def __call__(self, name: str, digest: str = "") -> str | None:
        """Return its path, or None where it is not there."""
        candidates = self._named.get(name, [])
        if digest:  # with the same content, any of them is the picture
            return next((path for path in candidates if self._short(path) == digest), None)
        if len(candidates) > 1:
            candidates = list(filter(self._is_new, candidates))
            self.ambiguous += len(candidates) > 1
        return candidates[0] if len(candidates) == 1 else None

    def why_missing(self, where: str) -> str:
        """Return why the pictures that were not found were not, in a sentence or two; `where` is what was looked in."""
        if not self.ambiguous:
            return f"They are not in {shown(where)}, or have changed since."
        return (
            f"Several pictures of {shown(where)} have the name of {count(self.ambiguous, 'picture')} of these, and "
            "this model remembers names alone. A model that is fitted anew knows its test pictures by content."
        )

    def _is_new(self, path: str) -> bool:
        short = self._short(path)
        return short is not None and short not in self._learned_from

    def _short(self, path: str) -> str | None:
        try:
            return digests.short(digests.of_picture(path))
        except ImageError:
            return None
