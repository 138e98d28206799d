"""A folder or file that is written aside, whole, and then takes the place of what stood there.

What is being written stands beside its target as `.NAME.xxxxxxxx.part` and is locked by its writer for as long as that
lives; what it replaces is `.NAME.xxxxxxxx.old` for a moment. What a killed writer left goes with the next writing to
the same target. Two at once are both written, and the later takes the place of the earlier.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headstart.core.errors import ModelError

ABANDONED_SECONDS = 24 * 3600.0  # without a change, where the file system (or Windows) has no such locks


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that takes its place when the block ends well, else vanishes.

    Whoever calls has made sure that what stands at `target` may be replaced.

    Raises:
        ModelError: `target` cannot be written.
    """
    target = target.absolute()
    try:
        with _new(target, Path.mkdir) as temporary:
            yield temporary
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written: {error.strerror or error}. Free some space or choose another folder."
        ) from error


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give an empty temporary file beside `target` that takes its place when the block ends well, else vanishes.

    Raises:
        OSError: `target` cannot be written; the caller knows what it is, and says so.
    """
    with _new(target.absolute(), lambda path: path.touch(exist_ok=False)) as temporary:
        yield temporary


def set_aside(target: Path) -> list[Path]:
    """Return what stood at `target` and was set aside to be replaced; never another model's, such as `target.v2`'s.

    Also by version 0.1.0, whose names had any letters: they are told, and never removed, as they may be the user's own.
    """
    return _beside(target, "old", "[a-z0-9_]{8}")


@contextmanager
def _new(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    temporary, held = _make_locked(target, make)
    try:
        yield temporary
        _take_place(temporary, target)
    finally:
        _remove(temporary)
        if held is not None:
            os.close(held)


def _make_locked(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        make(temporary)
        # Another writer may take it for a leftover before it is locked: then there has to be another one.
        with suppress(BlockingIOError, FileNotFoundError):
            held = lock(temporary)
            if temporary.exists():
                return temporary, held
            if held is not None:
                os.close(held)


def lock(path: Path, *, shared: bool = False) -> int | None:
    """Return a descriptor that locks a path until it is closed or this process ends; None where nothing can be.

    Args:
        path: A file or folder.
        shared: Whether others may hold it too, if they share it as well.

    Raises:
        BlockingIOError: Another holds the lock.
        FileNotFoundError: The path is not there.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # some network file systems lock no folder
        os.close(descriptor)
        return None
    return descriptor


def _take_place(temporary: Path, target: Path) -> None:
    """Put what is complete in the place of what stands there.

    Two renames of folders are not one: a kill between them leaves the former folder set aside, which `load` then says,
    and which goes once a model stands there again.
    """
    if temporary.is_file():
        temporary.replace(target)
        return
    former = temporary.with_suffix(".old")
    while True:
        with suppress(FileNotFoundError):
            target.rename(former)
        try:
            temporary.rename(target)
            break
        except OSError as error:
            # By the error, not by a look: a third writer may have set aside again what the faster one put there.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                _put_back(former, target)
                raise
            _remove(former)  # another writer was faster: what it wrote is what there is to replace now
        except BaseException:
            _put_back(former, target)
            raise
    _sweep(target)


def _put_back(former: Path, target: Path) -> None:
    if former.exists() and not target.exists():
        former.rename(target)


def _sweep(target: Path) -> None:
    """Remove what killed writers left beside the target, but for the former folder where none stands there now."""
    for part in _beside(target, "part"):
        # The lock is held meanwhile, so that nobody begins to write there.
        with suppress(OSError):
            held = lock(part)
            if held is not None or time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                _remove(part)
            if held is not None:
                os.close(held)
    if target.exists():
        for former in _beside(target, "old"):
            if not former.with_suffix(".part").exists():  # else its writer is about to take its place
                _remove(former)


def _beside(target: Path, kind: str, middle: str = "[0-9a-f]{8}") -> list[Path]:  # as `_make_locked` names them
    ours = re.compile(re.escape(f".{target.name}.") + rf"{middle}\.{kind}")
    names = os.listdir(target.parent) if target.parent.is_dir() else ()
    return [target.parent / name for name in names if ours.fullmatch(name)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
