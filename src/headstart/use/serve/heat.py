"""Heat maps on demand: where a model looked in a picture, drawn over it. Needs no torch."""

from __future__ import annotations

import asyncio
import base64
import functools
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import cv2

from headstart.core.predictor import Predictor
from headstart.core.preprocessing import shrink
from headstart.use.serve.pool import QueueFull

MOST = 4  # heat maps in one request: each runs the network on some eighty pictures
QUEUE = 8  # heat maps that may wait
MAX_SIDE = 640


@dataclass(frozen=True, eq=False)
class Asked:
    """One picture that waits: its model, its bytes, and where its heat map is awaited."""

    predictor: Predictor
    picture: bytes
    future: asyncio.Future[str | None]


class Heat:
    """One thread that draws heat maps one after the other, so that they never take all cores from the answers."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many pictures have been asked for and not been answered, the one that is being drawn among them."""
        return self._waiting

    async def draw(self, predictor: Predictor, pictures: Sequence[bytes]) -> list[str | None]:
        """Return each picture with the heat of its most probable class as a data URI; None where it is broken.

        Raises:
            QueueFull: Too many would wait.
        """
        if self._closed or self._waiting + len(pictures) > QUEUE:
            raise QueueFull
        self._waiting += len(pictures)
        if self._thread is None:  # a daemon, as the threads of the pool are
            self._thread = threading.Thread(target=self._work, name="headstart-heat", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        asked = [Asked(predictor, picture, loop.create_future()) for picture in pictures]
        try:
            with self._changed:
                self._asked += asked
                self._changed.notify()
            for one in asked:
                one.future.add_done_callback(functools.partial(self._forget, one))
            return await asyncio.gather(*(one.future for one in asked))
        finally:
            for one in asked:
                one.future.cancel()  # where one of them failed; those that are done stay as they are
            self._waiting -= len(pictures)

    def close(self, seconds: float) -> int:
        """Finish what waits and end the thread; return 1 if it is still busy after so many seconds, else 0."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is None:
            return 0
        self._thread.join(seconds)
        return int(self._thread.is_alive())

    def _forget(self, asked: Asked, future: asyncio.Future[str | None]) -> None:
        """Let go of a picture that nobody waits for any more, so that neither it nor its model is held."""
        if future.cancelled():
            with self._changed, suppress(ValueError):  # it is being drawn
                self._asked.remove(asked)

    def _work(self) -> None:
        while self._drew():
            pass

    def _drew(self) -> bool:
        """Wait for a picture and draw it; False when all is closed. What it holds goes with it, so not a loop."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            if not self._asked:
                return False
            asked = self._asked.popleft()
        if asked.future.cancelled():  # its client has gone, or its time was up
            return True
        drawn: str | Exception | None
        try:
            drawn = heat_map(asked.predictor, asked.picture)
        except Exception as error:  # the thread must live on; the request says 500
            drawn = error
        with suppress(RuntimeError):  # the loop has ended: this thread was left behind
            asked.future.get_loop().call_soon_threadsafe(_resolve, asked.future, drawn)
        return True


def _resolve(future: asyncio.Future[str | None], drawn: str | Exception | None) -> None:
    if future.done():
        return
    if isinstance(drawn, Exception):
        future.set_exception(drawn)
    else:
        future.set_result(drawn)


def heat_map(predictor: Predictor, picture: bytes) -> str | None:
    """Return a picture with the heat of its most probable class over it, as the data URI of a PNG; None if broken."""
    from headstart.use.explain.explanation import explain_pictures

    (explained,) = explain_pictures(predictor, [picture], method="occlusion", workers=1)
    if explained.error is not None:
        return None
    drawn = shrink(explained.overlay(), MAX_SIDE)
    _, png = cv2.imencode(".png", drawn[..., ::-1])
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")
