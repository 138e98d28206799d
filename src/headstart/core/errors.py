"""Every error headstart raises on purpose.

    HeadstartError
    ├── SettingError    a parameter has a value that cannot work (also a ValueError)
    ├── DataError       the labelled pictures cannot be learned from
    ├── ImageError      one picture cannot be read
    ├── WeightsError    pretrained weights are missing, damaged or of another network
    ├── ModelError      a model folder cannot be read or written
    ├── ExportError     an exported model does not say what the original says
    ├── CacheError      the feature cache cannot be used
    └── TrainingError   training cannot go on: the loss explodes, or memory is short

Messages say what happened with the value, what was expected, and what to do. The command line prints
them as one line and ends with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# So many names are all told where none is near.
_FEW = 6


class HeadstartError(Exception):
    """Base of all errors that headstart raises on purpose."""


class SettingError(HeadstartError, ValueError):
    """A parameter has a value that cannot work."""


class DataError(HeadstartError):
    """The labelled pictures cannot be learned from; the message lists every problem."""


class ImageError(HeadstartError):
    """One picture cannot be read; the message is one sentence without the path."""


class WeightsError(HeadstartError):
    """Pretrained weights are missing, damaged, or belong to another network."""


class ModelError(HeadstartError):
    """A model folder cannot be read or written."""


class ExportError(HeadstartError):
    """An exported model does not say what the original says; the message has a table of what differs."""


class CacheError(HeadstartError):
    """The feature cache cannot be used."""


class TrainingError(HeadstartError):
    """Training cannot go on; the message says what to change, and whether a checkpoint is kept."""


def cache_unwritable(what: object, error: BaseException) -> CacheError:
    """Return the error for something that the cache does not take, with the system's own reason.

    Args:
        what: The file or folder that could not be written.
        error: What was raised on writing it.
    """
    reason = getattr(error, "strerror", None) or error
    return CacheError(f"{what} cannot be written: {reason}. Free some space or set HEADSTART_CACHE.")


def unknown_name(kind: str, name: object, known: Iterable[str], listing: str) -> SettingError:
    """Return the error for a name that no registry knows, with up to three that are near it, where there are any.

    Args:
        kind: What the name should have been, such as `"backbone"`.
        name: What was given.
        known: All valid names.
        listing: Where all valid names are listed, such as "`headstart models`".
    """
    names = sorted(known)
    near = _near(str(name), names)
    if near:
        told = f"did you mean {' or '.join(map(repr, near))}? {listing} lists all."
    elif len(names) <= _FEW:
        told = f"choose one of {', '.join(names)}."
    else:
        told = f"{listing} lists all."
    return SettingError(f"unknown {kind} {str(name)!r}: {told}")


def _near(name: str, names: list[str]) -> list[str]:
    """Return up to three of the names that look like one, or hold it, whatever the case."""
    folded = {one.casefold(): one for one in names}
    found = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    if not found and len(name) > 2:
        found = [one for one in folded if name.casefold() in one][:3]
    return [folded[one] for one in found]
