"""The threads that decode pictures and run the network, and the bounded queue before them.

A thread a core takes up to four waiting pictures of one model, from whatever requests they came, decodes them and
runs the network on them in one go: micro-batching that never waits, as `docs/decisions/0012-serving.md` measures.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core import images
from headstart.core.errors import ImageError
from headstart.core.predictor import BATCH_SIZE, Predictor

Outputs = dict[str, np.ndarray]


class QueueFull(Exception):  # noqa: N818 (not an error: the client is told to come again)
    """More pictures are waiting than may wait."""


@dataclass(frozen=True, eq=False)
class Job:
    """One picture that waits: its bytes, the model it was sent to, and where its outputs are awaited."""

    predictor: Predictor
    picture: bytes
    future: asyncio.Future[Outputs | ImageError]


class Pool:
    """Runs models on pictures; `submit` is called in the event loop, the work is done in threads.

    Args:
        threads: How many; as many as the networks have streams.
        queue: How many pictures may wait.
        max_pixels: Of one picture.
        on_batch: Called in a thread with the number of pictures of each run of a network.
    """

    def __init__(
        self, threads: int, queue: int, max_pixels: int, on_batch: Callable[[int], None] = lambda size: None
    ) -> None:
        self._queue = queue
        self._max_pixels = max_pixels
        self._on_batch = on_batch
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._busy = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"headstart-serve-{number}") for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many pictures wait for a thread."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether every thread lives."""
        return all(thread.is_alive() for thread in self._threads)

    def check_room(self, pictures: int) -> None:
        """Raise QueueFull if not so many more pictures may wait."""
        if self._closed or len(self._waiting) + pictures > self._queue:
            raise QueueFull

    def submit(self, predictor: Predictor, pictures: Sequence[bytes]) -> list[asyncio.Future[Outputs | ImageError]]:
        """Let pictures wait for their turn, all or none; a cancelled future is passed over.

        Raises:
            QueueFull: They would be too many.
        """
        jobs = [Job(predictor, picture, self._loop.create_future()) for picture in pictures]
        with self._changed:
            self.check_room(len(jobs))
            self._waiting += jobs
            self._changed.notify(len(jobs))
        return [job.future for job in jobs]

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            results = self._results(jobs)
            self._loop.call_soon_threadsafe(_resolve, jobs, results)
            with self._changed:
                self._busy -= 1

    def _results(self, jobs: list[Job]) -> list[Any]:
        """Return outputs or errors; a picture that nobody thought of fails alone, not the others of its batch."""
        try:
            return list(self._run(jobs))
        except Exception as error:  # the thread must live on; the request says 500
            return [error] if len(jobs) == 1 else [self._results([job])[0] for job in jobs]

    def _take(self) -> list[Job]:
        """Wait for pictures and return up to `BATCH_SIZE` of one model; none when the pool is closed."""
        with self._changed:
            while True:
                jobs: list[Job] = []
                while self._waiting and len(jobs) < BATCH_SIZE:
                    if jobs and self._waiting[0].predictor is not jobs[0].predictor:
                        break
                    job = self._waiting.popleft()
                    if not job.future.cancelled():
                        jobs.append(job)
                if jobs:
                    self._busy += 1
                    return jobs
                if self._closed:
                    return []
                self._changed.wait()

    def _run(self, jobs: list[Job]) -> list[Outputs | ImageError]:
        predictor = jobs[0].predictor
        # A picture that is alone in the house is answered soonest by all cores together.
        network = predictor.network(many=len(jobs) > 1 or self._busy > 1)
        found: list[Outputs | ImageError | None] = [self._refusal(job.picture) for job in jobs]
        readable = [job.picture for job, refused in zip(jobs, found, strict=True) if refused is None]
        outputs = iter(predictor.run(readable, network) if readable else [])
        if readable:
            self._on_batch(len(readable))
        return [next(outputs) if one is None else one for one in found]

    def _refusal(self, picture: bytes) -> ImageError | None:
        try:
            images.inspect(picture, self._max_pixels)
        except ImageError as error:
            return error
        return None


def _resolve(jobs: list[Job], results: list[Any]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if job.future.done():  # the client has gone, or its time was up
            continue
        if isinstance(result, Exception) and not isinstance(result, ImageError):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
