"""Finding again the pictures that a model folder knows by the last parts of their paths alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from headstart.core.errors import ImageError


def finder(paths: Iterable[str], learned_from: Callable[[str], bool]) -> Callable[[str], str | None]:
    """Return a function from the name of a test picture to its path, or None where it is not there.

    Where several pictures have a name (`train/ants/1.jpg`, `val/ants/1.jpg`), it is the one that was not learned from.

    Args:
        paths: Where pictures are.
        learned_from: Whether the model has learned from the picture at a path.
    """
    named: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        name = "/".join(Path(path).parts[-2:])
        named[name.encode("utf-8", "backslashreplace").decode()].append(path)

    def is_new(path: str) -> bool:
        try:
            return not learned_from(path)
        except ImageError:
            return False

    def find(name: str) -> str | None:
        candidates = named.get(name, [])
        if len(candidates) > 1:
            candidates = list(filter(is_new, candidates))
        return candidates[0] if len(candidates) == 1 else None

    return find
