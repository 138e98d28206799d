"""Names of files and classes as text that can be shown anywhere, short names of paths, and counts with their nouns."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any


def shown(name: object) -> str:
    r"""Return a file name that can be printed: bytes that are not UTF-8 as \xe9, control characters escaped."""
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown_lines(text: str) -> str:
    """Return text with its lines kept and all else in them as `shown` has it."""
    return "\n".join(map(shown, text.split("\n")))


def short_name(path: str) -> str:
    """Return what to call a picture where the user's own folders shall not be told: the last two parts of its path."""
    return "/".join(Path(path).parts[-2:])


def below(path: str, base: str) -> str:
    """Return the path from the folder `base` on, if it lies below it; any other, or with an empty `base`, as it is."""
    return os.path.relpath(path, base) if base and path.startswith(base.rstrip(os.sep) + os.sep) else path


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return "1 picture" or "1,234 pictures"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def cell_name(cell: Any) -> str | None:
    """Return the cell of a table, or a label given in Python, as a name; None where it is missing or several things.

    Numbers that a missing cell beside them turned into floats are whole again: 3.0 is "3".
    """
    if cell is None or isinstance(cell, (list, tuple, set, dict)) or getattr(cell, "ndim", 0) > 0:
        return None
    if isinstance(cell, bytes):
        cell = os.fsdecode(cell)
    if not isinstance(cell, str):
        if repr(cell) in ("<NA>", "NaT") or cell != cell:
            return None
        if _is_whole_float(cell):
            cell = int(cell)
    return unicodedata.normalize("NFC", str(cell)).strip() or None


def _is_whole_float(cell: Any) -> bool:
    return hasattr(cell, "is_integer") and not isinstance(cell, int) and bool(cell.is_integer())
