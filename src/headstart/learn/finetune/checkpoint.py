"""Checkpoints: written whole or not at all, read without unpickling, and stopping only between two steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.core.errors import CacheError, cache_unwritable

FILE = "checkpoint.pt"
# Raise it when the meaning of a checkpoint, or what a step does, changes: older ones are then ignored.
FORMAT = 3


@dataclass(frozen=True)
class Peek:
    """What a checkpoint says of its run.

    Attributes:
        epoch, step: The next epoch, and the next step in it, both from 0.
        precision: What it trains in, `float32` or `bfloat16`; None where that is not known.
    """

    epoch: int
    step: int
    precision: str | None


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint in the folder."""
    return (folder / FILE).is_file()


def peek(folder: Path) -> Peek | None:
    """Return how far the run of the checkpoint in the folder has come, without its tensors; None where none is read."""
    try:
        found = torch.load(folder / FILE, weights_only=True, map_location="cpu", mmap=True)
        run, precision = found["run"], found.get("precision")
        known = precision if precision in ("float32", "bfloat16") else None
        return Peek(int(run["epoch"]), int(run["step_in_epoch"]), known)
    except Exception:  # there is none, or it is damaged: torch raises many kinds
        return None


def written(folder: Path) -> int:
    """Return when the checkpoint in the folder was written (nanoseconds of Unix time); 0 where there is none."""
    try:
        return (folder / FILE).stat().st_mtime_ns
    except OSError:
        return 0


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a reader finds the old one or the new one, never half of one.

    Args:
        folder: Of the run; is made if need be.
        state: Tensors and plain values, nested in dictionaries and lists.

    Raises:
        CacheError: The disk is full or the folder cannot be written; the old checkpoint stays.
    """
    temporary = folder / f".{FILE}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "run_folder": folder.name, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / FILE)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise cache_unwritable(f"the checkpoint in {folder}", error) from error


def load(folder: Path) -> dict[str, Any] | None:
    """Return the checkpoint of a run, on the processor; None where there is none.

    Nothing is unpickled but tensors and plain values (torch's `weights_only`), so a foreign file can do no harm.

    Raises:
        CacheError: The file there is damaged, or not the checkpoint of this run.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged zip, other pickles, no permission: torch raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise _refused(path, f"cannot be read ({reason})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("run_folder") != folder.name:
        raise _refused(path, "is not one of this run")
    return state


@contextmanager
def stop_between_steps() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question that the loop asks between two steps: "should I stop?".

    A second signal interrupts at once. Outside the main thread, where Python delivers no signals, it is always no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in old.items():
            # None: a handler that is not Python's, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _refused(path: Path, reason: str) -> CacheError:
    return CacheError(f"the checkpoint {path} {reason}: delete it, or begin anew without resume.")
