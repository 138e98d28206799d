"""The cache as a whole: what is in it, how much room its limit leaves, and what goes first.

Features (`features/`), checkpoints (`runs.py`) and what else is kept share one limit. Checkpoints, which are hours of
work, are never deleted to make room.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.core import settings
from headstart.core.errors import CacheError
from headstart.core.replacing import lock
from headstart.learn.database import opened
from headstart.learn.runs import IN_USE_SECONDS, list_runs

# Graphs of networks, what the audit found out of pictures, ImageNet's classifiers, and what trials of speed found.
OTHERS = ("graphs", "records", "imagenet", "precision")


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
            with opened(description.parent) as environment:
                pages, state = environment.info()["last_pgno"] + 1, environment.stat()
            size = pages * state["psize"]
            spaces.append(StoredSpace(description.parent, about, size, description.stat().st_mtime, state["entries"]))
        except (OSError, ValueError, CacheError):  # vanished, half written or damaged: `clear` removes it
            continue
    return sorted(spaces, key=lambda space: -space.last_used)


def other_sizes() -> dict[str, int]:
    """Return the bytes of what is cached besides features and runs, by kind."""
    return {kind: sum(map(_disk_size, (settings.cache_folder() / kind).glob("*"))) for kind in OTHERS}


def clear(older_than_days: float = 0.0) -> int:
    """Delete what is cached (all, or what was not used for some days) and return the bytes freed, about.

    Runs, which are hours of work, are left: see `runs.clear_runs`.
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


def make_room(needed: int, keep: Path, anew: int | None = None) -> int:
    """Delete the least recently used spaces until `needed` more bytes fit the limit; return the bytes freed.

    Those that another run holds, or that were used within the last hour, are never deleted. What would not fit even an
    empty cache costs no space its place.

    Args:
        needed: Bytes that the space `keep` will grow by.
        keep: Its folder. It stays, unless what earlier runs have left in it (of other pictures, seeds and
            augmentations) is so much that the bytes would not fit even if all other spaces went. Then it is deleted
            first, if no run holds it (`features/store.py`).
        anew: Bytes that the space will then have; None where it must stay.
    """
    spaces, most, freed = list_spaces(), room(), 0
    own = next((space for space in spaces if space.folder == keep), None)
    if own is not None and anew is not None and own.size + needed > most >= anew and _delete_unheld(keep):
        spaces.remove(own)
        freed, needed = own.size, anew
    excess = freed + sum(space.size for space in spaces) + (needed if needed <= most else 0) - most
    for space in reversed(spaces):
        if freed >= excess:
            break
        unused = space.folder != keep and time.time() - space.last_used > IN_USE_SECONDS
        if unused and _delete_unheld(space.folder, without_locks=True):
            freed += space.size
    return freed


def _delete_unheld(folder: Path, *, without_locks: bool = False) -> bool:
    """Delete a space unless a run holds it; return whether it is gone. Where no locks tell, as `without_locks` says."""
    try:
        own = lock(folder)
    except (BlockingIOError, FileNotFoundError):
        return False
    if own is None and not without_locks:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    if own is not None:
        os.close(own)
    return True
