"""One JSON object a line on standard error: requests, models, warnings, and what libraries have to say."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LONGEST = 10_000  # bytes of a line that is not ours
_own: list[int] = []  # the descriptor of the log, while `only_json` keeps standard error for others
# Threads that write to a pipe at once would mix their lines from 4 KB on. It can be taken again by its thread, as the
# collector may run meanwhile, and what it closes may warn.
_one_at_a_time = threading.RLock()


def event(kind: str, **fields: Any) -> None:
    """Write one line; where nobody reads it any more, go on without."""
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
    line = json.dumps({"time": stamp, "event": kind, **fields}, default=str)
    with _one_at_a_time, suppress(OSError, ValueError):  # a reader that has gone, a full disk, a closed stream
        if not _own:
            print(line, file=sys.stderr, flush=True)
            return
        rest = line.encode() + b"\n"
        while rest:  # a pipe takes as much as it has room for
            rest = rest[os.write(_own[-1], rest) :]


class JsonLines(logging.Handler):
    """Writes records of the standard library's logging as such lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback in one field."""
        trace = {"traceback": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
        event("log", level=record.levelname.lower(), source=record.name, message=record.getMessage(), **trace)


@contextmanager
def only_json() -> Iterator[None]:
    """Make an event of all that is written to standard error, by libraries in C such as libtiff, too, and of warnings.

    Standard error becomes a pipe that a thread reads; the log itself goes where standard error went.
    """
    try:
        own = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    read, write = os.pipe()
    # A library that writes while it holds Python's lock must not wait for our reader, who needs that lock.
    os.set_blocking(write, False)
    os.dup2(write, 2)
    os.close(write)
    reader = threading.Thread(target=_read, args=(read,), name="headstart-log", daemon=True)
    reader.start()
    _own.append(own)
    shown = warnings.showwarning
    warnings.showwarning = _warned
    try:
        yield
    finally:
        warnings.showwarning = shown
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(own, 2)  # the pipe's last writer goes, and with it the reader, once it has read all
        reader.join(1)
        with _one_at_a_time:  # nobody is between a look at it and its use
            _own.remove(own)
            os.close(own)


def _read(descriptor: int) -> None:
    with open(descriptor, "rb") as pipe:
        while line := pipe.readline(_LONGEST):
            if text := line.decode("utf-8", "replace").strip():
                event("stderr", message=text)


def _warned(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    event("warning", category=category.__name__, message=str(message))
