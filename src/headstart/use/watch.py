"""Watching a folder: every new picture is labelled once, and its label is a line of a file.

That file is all the memory there is: what it names is done. It names pictures by their real absolute path, so that the
folder may be spelled otherwise after a restart. A line is written whole by one call, a half one that a killed process
or a full disk left is cut off at the next start, and the picture is labelled then.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from headstart.core.errors import SettingError
from headstart.core.pictures import find_files
from headstart.core.predictor import Predictor
from headstart.core.text import shown

POLL = 1.0  # seconds between looks at the folder
SETTLED = 1.0  # a file is whole when it has not changed for so long …
PATIENCE = 10.0  # … and broken when it cannot be read after so long
COLUMNS = ("path", "label", "probability", "set", "unknown", "novelty", "error", "bytes", "modified")
_OF_LABELS = ("path", "labels"), ("unknown", "novelty", "error", "bytes", "modified")  # the classes stand between them


class State(NamedTuple):
    """One state of a file: a picture that is replaced under its name is a new picture."""

    path: str
    bytes: int
    modified: str

    @classmethod
    def of(cls, path: Path) -> State | None:
        """Return the state of a file now, or None where it is gone."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        seconds, rest = divmod(found.st_mtime_ns, 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return cls(shown(path), found.st_size, f"{stamp}.{rest:09}Z")


def watch(predictor: Predictor, folder: Path, out: Path, *, stop: threading.Event, top: int | None = None) -> int:
    """Label the pictures below a folder, and those that come, until `stop` is set; return how many were labelled.

    Args:
        predictor: The model.
        folder: Looked at once a second, with the folders in it.
        out: Lines are appended to it: comma-separated where it ends in `.csv`, else JSON. Where pictures have several
            labels, a table has `labels` and a column for each class.
        stop: Ends the watch after the picture at hand.
        top: Only so many classes a line of JSON; None is all.

    Raises:
        SettingError: `folder` is no folder, or `out` cannot be written, is in use, or holds something else.
    """
    if not folder.is_dir():
        raise SettingError(f"{shown(folder)} is no folder: name one to watch.")
    try:
        folder = folder.absolute()  # once: the current directory may go, the folder may not be below it
    except OSError as error:
        raise SettingError(
            f"{shown(folder)} cannot be found ({error.strerror}): go to a folder that exists, or name it whole."
        ) from None
    count = 0
    waiting: dict[Path, tuple[State, float]] = {}
    several = None if predictor.thresholds.labels is None else predictor.classes
    with Records(out, several) as records:
        while not stop.is_set():
            start = time.monotonic()
            ready, waiting = _look(folder, records.done, waiting)
            for path, state, told in _label(predictor, ready, waiting, top, stop):
                records.append(state, told)
                waiting.pop(path, None)
                count += 1
            records.sync()
            stop.wait(max(POLL, 2 * (time.monotonic() - start) if not ready else 0))
    return count


def _look(
    folder: Path, done: set[State], before: dict[Path, tuple[State, float]]
) -> tuple[list[Path], dict[Path, tuple[State, float]]]:
    """Return the files that have settled, and for each that is not done its state and since when it has that."""
    now = time.monotonic()
    ready: list[Path] = []
    waiting: dict[Path, tuple[State, float]] = {}
    try:
        real = folder.resolve()  # each time: it may be a link that is set elsewhere
    except (OSError, RuntimeError):  # a network drive that is away, a link to itself: nothing now
        return ready, waiting
    for path in find_files(real):
        state = State.of(path)
        if state is None or state in done:
            continue
        known, since = before.get(path, (None, now))
        if known != state:
            # What has not changed for long before it was first seen need not prove itself again.
            old = path not in before and _age(path) > PATIENCE
            since = now - SETTLED if old else now
        waiting[path] = (state, since)
        if now - since >= SETTLED:
            ready.append(path)
    return ready, waiting


def _age(path: Path) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:  # gone since it was found
        return 0.0


def _label(
    predictor: Predictor,
    ready: list[Path],
    waiting: dict[Path, tuple[State, float]],
    top: int | None,
    stop: threading.Event,
) -> Iterator[tuple[Path, State, dict[str, Any]]]:
    for path, prediction in zip(ready, predictor.stream(ready, many=len(ready) > 1), strict=True):
        if stop.is_set():
            return
        state, since = waiting[path]
        if State.of(path) != state:  # it changed while it was read: next time
            continue
        if prediction.probabilities is not None:
            yield path, state, predictor.answer(prediction).to_json(top)
        elif time.monotonic() - since >= PATIENCE:
            yield path, state, {"error": prediction.error}


class Records:
    """The lines of a file, each a picture that is done; the file is locked, as two watches would label all twice.

    Args:
        path: Comma-separated values where it ends in `.csv`, else JSON lines.
        several: The classes, where a picture has several labels: a table then has a column for each.

    Attributes:
        done: The states of files that have a line.

    Raises:
        SettingError: The file cannot be written, is in use by another watch, or holds something else.
    """

    def __init__(self, path: Path, several: Sequence[str] | None = None) -> None:
        self._path = path
        self._csv = is_csv(path)
        self._several = several
        self._columns = COLUMNS if several is None else (*_OF_LABELS[0], *map(shown, several), *_OF_LABELS[1])
        self._dirty = False
        self.done: set[State] = set()
        try:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise SettingError(f"{shown(path)} cannot be written ({error.strerror}). Choose another --out.") from None
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, state: State, told: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            OSError: The disk is full, or the file cannot be written any more; half a line does not stay.
        """
        line = self._line(state, told)
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(None, f"{shown(self._path)} could not be written whole: the disk is full")
        except OSError:
            self._file.truncate(size)
            raise
        self.done.add(state)
        self._dirty = True

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        if self._dirty:
            os.fsync(self._file.fileno())
            self._dirty = False

    def _line(self, state: State, told: dict[str, Any]) -> bytes:
        if not self._csv:
            text = json.dumps({"path": state.path, **told, **state._asdict()}, ensure_ascii=False) + "\n"
            return text.encode("utf-8", "backslashreplace")
        unknown = str(told["unknown"]).lower() if "unknown" in told else None
        last = [unknown, told.get("novelty"), told.get("error"), state.bytes, state.modified]
        return _row([state.path, *self._answer(told), *last])

    def _answer(self, told: dict[str, Any]) -> list[Any]:
        """Return the cells of what was answered, all empty where nothing was."""
        probabilities = told.get("probabilities", {})
        if self._several is not None:
            shares = [f"{probabilities[name]:.6f}" if probabilities else None for name in self._several]
            return [";".join(map(shown, told.get("labels", ()))), *shares]
        label = told.get("label")
        named = [None, None] if label is None else [shown(label), f"{probabilities[label]:.6f}"]
        return [*named, ";".join(map(shown, told.get("set", ())))]

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingError(f"{shown(self._path)} is in use by another watch: choose another --out.") from None

    def _read(self) -> None:
        """Read what is done, cut off half a line at the end, and write the heading of an empty table."""
        end, real = 0, functools.cache(os.path.realpath)
        with open(self._path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                state = self._state(line, number)
                if state is not None:
                    folder, name = os.path.split(state.path)  # older versions wrote it as the folder was typed
                    self.done.add(state._replace(path=os.path.join(real(folder), name)))
                end += len(line)
        self._file.truncate(end)
        if self._csv and end == 0:
            self._file.write(_row(list(self._columns)))

    def _state(self, line: bytes, number: int) -> State | None:
        try:
            text = line.decode("utf-8")
            if not self._csv:
                told = json.loads(text)
                return State(told["path"], int(told["bytes"]), told["modified"])
            (cells,) = csv.reader([text])
            if number == 1 and tuple(cells) == self._columns:
                return None
            path, *_, size, modified = cells
            if len(cells) != len(self._columns):
                raise ValueError("other columns")
            return State(path, int(size), modified)
        except (ValueError, KeyError, TypeError):
            raise SettingError(
                f"line {number} of {shown(self._path)} was not written by --watch, or not with such a model: nothing "
                "was done. Choose another --out."
            ) from None


def is_csv(path: Path) -> bool:
    """Whether lines go to this file as comma-separated values rather than as JSON."""
    return path.suffix.lower() == ".csv"


def _row(cells: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")
