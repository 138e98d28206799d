"""Fine-tunings whose checkpoints the cache keeps: held while they run, listed, and cleared when they do not."""

from __future__ import annotations

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


@contextmanager
def held(folder: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Mark a run as alive until the block ends, however it ends; a folder without a checkpoint then goes.

    What cannot be written here is no error: writing the checkpoint tells it.

    Args:
        folder: Of the run.
        about: Plain values, for `headstart cache`.
    """
    descriptor = None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = lock(folder)
        (folder / ABOUT).write_text(json.dumps(dict(about)), encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [ABOUT]:
                shutil.rmtree(folder)
        if descriptor is not None:
            os.close(descriptor)


def list_runs() -> list[StoredRun]:
    """Return the runs of the cache, the most recently used first."""
    runs = []
    for folder in (settings.cache_folder() / "runs").glob("*"):
        try:
            files = [(path.name, path.stat()) for path in folder.iterdir()]
            newest = max([folder.stat().st_mtime, *(stat.st_mtime for _, stat in files)])
            size = sum(stat.st_size for _, stat in files)
            runs.append(StoredRun(folder, _about(folder), size, newest, _is_alive(folder, newest)))
        except OSError:  # vanished meanwhile
            continue
    return sorted(runs, key=lambda run: -run.last_used)


def clear_runs(older_than_days: float = 0.0) -> int:
    """Delete the checkpoints of runs that no process is running, and return the bytes freed."""
    freed = 0
    for run in list_runs():
        if not run.alive and time.time() - run.last_used >= older_than_days * 86400:
            shutil.rmtree(run.folder, ignore_errors=True)
            freed += run.size
    return freed


def describe(run: StoredRun) -> str:
    """Return what a run is, in a few words."""
    about = run.about
    try:
        return f"{about['backbone']} from {about['cut']}, {about['epochs']} epochs on {shown(about['data'])}"
    except KeyError:  # of an earlier version
        return run.folder.name


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
