"""How much a client may ask for. Whoever sends more is told so.

What clients can make the server hold is bounded: all bodies together (`bodies`), what the threads work on, the decoded
picture of each thread (up to 16 megapixels, or more where the decoder need not hold it as a whole), and one large
picture for answers and one for heat maps: of 50 megapixels, 200 to 750 MB each, by its format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from headstart.core.errors import SettingError
from headstart.core.images import MAX_PIXELS

MOST_SECONDS = 86_400


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        body: Bytes of one request's body; more is 413.
        bodies: Bytes of all bodies held in memory at once; more is 503.
        pixels: Pixels of one picture, width x height; more is an error of that picture.
        files: Pictures in one request; more is 413.
        queue: Pictures that wait for a thread; when they would be more, the request is 503.
        seconds: For one request from its first byte to its answer: 408 where the body is late, 504 where we are.
        silence: Seconds between two pieces of a body; more is 408: stalled bodies would fill `bodies`.
    """

    body: int = 32_000_000
    bodies: int = 256_000_000
    pixels: int = 50_000_000
    files: int = 32
    queue: int = 64
    seconds: float = 30.0
    silence: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 and math.isfinite(value)):
                raise SettingError(f"the limit of {field.name} is {value!r}: give a number above 0.")
        if self.seconds > MOST_SECONDS:
            raise SettingError(f"the limit of seconds is {self.seconds:g}: at most {MOST_SECONDS:,}, a day.")
        if self.pixels > MAX_PIXELS:
            raise SettingError(f"the limit of pixels is {self.pixels:,}: at most {MAX_PIXELS:,} are ever read.")
        if self.files > self.queue:
            raise SettingError(
                f"a request may hold {self.files} pictures and the queue only {self.queue}: it could never be "
                "answered. Make the queue longer or allow fewer."
            )
        if self.body > self.bodies:
            raise SettingError(
                f"a body may have {self.body:,} bytes and all together only {self.bodies:,}: make the latter larger."
            )
