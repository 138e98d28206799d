"""Where headstart keeps what it may always make again, and what the environment may say about it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headstart.core.errors import SettingError

DEFAULT_CACHE_LIMIT = 20 * 1000**3
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def cache_folder() -> Path:
    """Return the cache folder: `HEADSTART_CACHE`, else `$XDG_CACHE_HOME/headstart`, else `~/.cache/headstart`."""
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headstart"


def cache_limit() -> int:
    """Return the most bytes that cached features may take: `HEADSTART_CACHE_LIMIT` (such as `500M`), else 20 GB.

    Raises:
        SettingError: The variable is set to something that is no size.
    """
    text = os.environ.get("HEADSTART_CACHE_LIMIT")
    try:
        return DEFAULT_CACHE_LIMIT if not text else parse_size(text)
    except SettingError as error:
        raise SettingError(f"HEADSTART_CACHE_LIMIT: {error}") from None


def parse_size(text: str) -> int:
    """Return the bytes that `text` such as `20G`, `500M`, `4GiB` or `1000000` names: thousands, with `i` 1024s.

    Raises:
        SettingError: It is no such size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match:
        raise SettingError(f"{text!r} is not a size: give a number with K, M, G or T, such as 20G.")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])


def offline() -> bool:
    """Whether `HEADSTART_OFFLINE` (or the hub's own `HF_HUB_OFFLINE`) forbids any download."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
        for name in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE")
    )
