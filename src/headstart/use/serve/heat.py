"""Heat maps on demand: where a model looked in a picture, drawn over it. Needs no torch."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2

from headstart.core.predictor import Predictor
from headstart.use.serve.pool import QueueFull

MOST = 4  # heat maps in one request: each runs the network on some eighty pictures
QUEUE = 8  # heat maps that may wait
MAX_SIDE = 640


class Heat:
    """One thread that draws heat maps one after the other, so that they never take all cores from the answers."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headstart-heat")
        self._waiting = 0

    async def draw(self, predictor: Predictor, pictures: Sequence[bytes]) -> list[str | None]:
        """Return each picture with the heat of its most probable class as a data URI; None where it is broken.

        Raises:
            QueueFull: Too many would wait.
        """
        if self._waiting + len(pictures) > QUEUE:
            raise QueueFull
        self._waiting += len(pictures)
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.gather(
                *(loop.run_in_executor(self._thread, heat_map, predictor, picture) for picture in pictures)
            )
        finally:
            self._waiting -= len(pictures)

    def close(self) -> None:
        """Finish what is under way and end the thread."""
        self._thread.shutdown(cancel_futures=True)


def heat_map(predictor: Predictor, picture: bytes) -> str | None:
    """Return a picture with the heat of its most probable class over it, as the data URI of a PNG; None if broken."""
    from headstart.use.explain.explanation import explain_pictures

    (explained,) = explain_pictures(predictor, [picture], method="occlusion")
    if explained.error is not None:
        return None
    drawn = explained.overlay()[..., ::-1]
    scale = MAX_SIDE / max(drawn.shape[:2])
    if scale < 1:
        size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
        drawn = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    _, png = cv2.imencode(".png", drawn)
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")
