"""Fine-tunings whose checkpoints the cache keeps: by what they are known again, who is alive, and what goes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.core import settings
from headstart.core.replacing import lock
from headstart.core.text import shown

ABOUT = "about.json"
IN_USE_SECONDS = 3600.0  # without a change, where the file system (or Windows) has no locks
KEEP_DAYS = 30  # after which an interrupted run goes by itself


@dataclass(frozen=True)
class StoredRun:
    """One run in the cache.

    Attributes:
        folder: Of its checkpoint.
        about: What it learns from and what it trains; plain values, empty where that is not known.
        size: Bytes.
        last_used: When its last checkpoint was written (Unix time).
        alive: Whether a process runs it now.
    """

    folder: Path
    about: dict[str, Any]
    size: int
    last_used: float
    alive: bool


def folder_of(identity: Mapping[str, Any]) -> Path:
    """Return the folder of a run's checkpoint in the cache; the same data and settings give the same folder."""
    return _folder() / name_of(identity)


def name_of(identity: Mapping[str, Any]) -> str:
    """Return a name, 24 hexadecimal digits, that is the same exactly where all that it is made of is.

    Args:
        identity: Plain values; what JSON does not know counts as its text.
    """
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True, default=str).encode()).hexdigest()[:24]


@contextmanager
def held(folder: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Mark a run as alive until the block ends, however it ends; a folder without a checkpoint then goes.

    Where another process has the same run under way, the folder stays that one's.

    What cannot be written here is no error: writing the checkpoint tells it.

    Args:
        folder: Of the run.
        about: Plain values, for `headstart cache`.
    """
    descriptor, anothers = None, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = lock(folder)
        (folder / ABOUT).write_text(json.dumps(dict(about)), encoding="utf-8")
    except BlockingIOError:
        anothers = True
    except OSError:
        pass
    try:
        yield
    finally:
        with suppress(OSError):
            if not anothers and [path.name for path in folder.iterdir()] == [ABOUT]:
                shutil.rmtree(folder)
        if descriptor is not None:
            os.close(descriptor)


def list_runs() -> list[StoredRun]:
    """Return the runs of the cache, the most recently used first."""
    runs = []
    for folder in _folder().glob("*"):
        try:
            files = [(path.name, path.stat()) for path in folder.iterdir()]
            newest = max([folder.stat().st_mtime, *(stat.st_mtime for _, stat in files)])
            size = sum(stat.st_size for _, stat in files)
            runs.append(StoredRun(folder, _about(folder), size, newest, _is_alive(folder, newest)))
        except OSError:  # vanished meanwhile
            continue
    return sorted(runs, key=lambda run: -run.last_used)


def clear_runs(older_than_days: float = 0.0, keep: Path | None = None) -> int:
    """Delete the checkpoints of runs that no process is running, and return the bytes freed.

    Args:
        older_than_days: Only those that nobody has continued for as long.
        keep: The folder of a run that is about to go on, however old its checkpoint is.
    """
    freed = 0
    for run in list_runs():
        old = time.time() - run.last_used >= older_than_days * 86400
        if old and not run.alive and run.folder != keep:
            discard(run.folder)
            freed += run.size
    return freed


def discard_old(keep: Path) -> None:
    """Delete the runs that nobody has continued for `KEEP_DAYS` days, so that they do not fill the disk.

    Args:
        keep: The folder of a run that is about to go on.
    """
    clear_runs(KEEP_DAYS, keep)


def discard(folder: Path | None) -> None:
    """Delete a run's checkpoint, which a run that is complete and saved needs no more."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def describe(run: StoredRun) -> str:
    """Return what a run is, in a few words."""
    about = run.about
    try:
        return f"{about['backbone']} from {about['cut']}, {about['epochs']} epochs on {shown(about['data'])}"
    except KeyError:  # of an earlier version
        return run.folder.name


def _folder() -> Path:
    return settings.cache_folder() / "runs"


def _about(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    return {}


def _is_alive(folder: Path, newest: float) -> bool:
    try:
        found = lock(folder)
    except BlockingIOError:
        return True
    if found is None:
        return time.time() - newest < IN_USE_SECONDS
    os.close(found)
    return False
