"""Heat maps on demand: where a model looked in a picture, drawn over it. Needs no torch."""

from __future__ import annotations

import asyncio
import base64
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress

import cv2

from headstart.core.predictor import Predictor
from headstart.use.serve.pool import QueueFull

MOST = 4  # heat maps in one request: each runs the network on some eighty pictures
QUEUE = 8  # heat maps that may wait
MAX_SIDE = 640
Asked = tuple[Predictor, bytes, "asyncio.Future[str | None]"]


class Heat:
    """One thread that draws heat maps one after the other, so that they never take all cores from the answers."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0

    async def draw(self, predictor: Predictor, pictures: Sequence[bytes]) -> list[str | None]:
        """Return each picture with the heat of its most probable class as a data URI; None where it is broken.

        Raises:
            QueueFull: Too many would wait.
        """
        if self._waiting + len(pictures) > QUEUE:
            raise QueueFull
        self._waiting += len(pictures)
        if self._thread is None:  # a daemon, as the threads of the pool are
            self._thread = threading.Thread(target=self._work, name="headstart-heat", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        try:
            asked: list[Asked] = [(predictor, picture, loop.create_future()) for picture in pictures]
            for one in asked:
                self._asked.put(one)
            return await asyncio.gather(*(future for _, _, future in asked))
        finally:
            self._waiting -= len(pictures)

    def close(self, seconds: float) -> int:
        """Finish what is under way and end the thread; return 1 if it is still busy after so many seconds, else 0."""
        if self._thread is None:
            return 0
        self._asked.put(None)
        self._thread.join(seconds)
        return int(self._thread.is_alive())

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            predictor, picture, future = asked
            if future.cancelled():  # its client has gone, or its time was up
                continue
            drawn: str | Exception | None
            try:
                drawn = heat_map(predictor, picture)
            except Exception as error:  # the thread must live on; the request says 500
                drawn = error
            with suppress(RuntimeError):  # the loop has ended: this thread was left behind
                future.get_loop().call_soon_threadsafe(_resolve, future, drawn)


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
    drawn = explained.overlay()[..., ::-1]
    scale = MAX_SIDE / max(drawn.shape[:2])
    if scale < 1:
        size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
        drawn = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    _, png = cv2.imencode(".png", drawn)
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")
