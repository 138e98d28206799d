"""Whether features fit into memory: asked before hours of extraction, instead of being killed after them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from headstart.core.errors import SettingError
from headstart.core.text import count

# The features themselves, those of them that a head is fitted on, and these once more, scaled.
COPIES = 3
_CONTAINER = Path("/sys/fs/cgroup")
_STATE = Path("/proc/meminfo")


def check_memory(pictures: int, views: int, *widths: int) -> None:
    """Raise SettingError if the features of so many pictures and views cannot be held in memory.

    Whoever is going to hold them asks once, before the extraction begins: later it would cost what was done by then.

    Args:
        pictures: How many.
        views: Of each picture.
        widths: Numbers of float32 features of one view, of each backbone whose features are held together; a head is
            fitted on those of one at a time.
    """
    at_once = sum(widths) + (COPIES - 1) * max(widths)
    needed, there = 4 * pictures * views * at_once, available()
    if there is not None and needed > there:
        raise SettingError(
            f"{count(pictures, 'picture')} x {count(views, 'view')} x {count(sum(widths), 'feature')} take "
            f"{needed / 1e9:.1f} GB of memory, and {there / 1e9:.1f} GB are free: choose pooling avg or max, a smaller "
            "image_size, fewer views, or a backbone with fewer features."
        )


def available() -> int | None:
    """Return the bytes of memory that can still be had, without swapping; None where the system does not say.

    Linux tells what is free or can be freed; elsewhere it is the memory that is built in. A container's limit counts.
    """
    found = []
    try:
        lines = dict(line.split(":", 1) for line in _STATE.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError, KeyError):  # there is no container, or its limit is "max"
        limit, used = (int((_CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        found.append(max(0, limit - used + int(stat["inactive_file"])))  # files that were read can be let go
    return min(found, default=None)
