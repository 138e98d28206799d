"""One JSON object a line on standard error: requests, models, and what uvicorn has to say."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any


def event(kind: str, **fields: Any) -> None:
    """Write one line."""
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
    print(json.dumps({"time": stamp, "event": kind, **fields}, default=str), file=sys.stderr, flush=True)


class JsonLines(logging.Handler):
    """Writes records of the standard library's logging as such lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback in one field."""
        trace = {"traceback": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
        event("log", level=record.levelname.lower(), source=record.name, message=record.getMessage(), **trace)
