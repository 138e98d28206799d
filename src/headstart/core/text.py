"""Names of files and classes as text that can be shown anywhere, and counts with their nouns."""

from __future__ import annotations

import os


def shown(name: object) -> str:
    r"""Return a file name that can be printed: bytes that are not UTF-8 as \xe9, control characters escaped."""
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown_lines(text: str) -> str:
    """Return text with its lines kept and all else in them as `shown` has it."""
    return "\n".join(map(shown, text.split("\n")))


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return "1 picture" or "1,234 pictures"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
