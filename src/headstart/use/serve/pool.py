"""The threads that decode pictures and run the network, and the bounded queue before them.

A thread a core takes up to four waiting pictures of one model, from whatever requests they came, decodes them and
runs the network on them in one go: micro-batching that never waits, as `docs/decisions/0012-serving.md` measures.
Pictures that take much memory wait in a queue of their own and are run one at a time.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core import images
from headstart.core.errors import ImageError
from headstart.core.predictor import BATCH_SIZE, Predictor

Outputs = dict[str, np.ndarray]
# From here on a picture whose decoder holds all of it takes 100 MB and more, so that there is only one such at a time.
LARGE_PIXELS = 16_000_000
_LATER = object()  # stands in place of a result: the picture waits for its turn among the large ones


class QueueFull(Exception):  # noqa: N818 (not an error: the client is told to come again)
    """More pictures are waiting than may wait."""


class LargeQueueFull(QueueFull):
    """More large pictures are waiting than may wait, of whatever requests."""


@dataclass(eq=False)
class Job:
    """One picture that waits: its bytes, its model, where its outputs are awaited, whether it was found to be large."""

    predictor: Predictor
    picture: bytes
    future: asyncio.Future[Outputs | ImageError]
    large: bool = False


@dataclass(frozen=True)
class PoolState:
    """What a pool is doing at one moment.

    Attributes:
        threads: How many it has.
        alive: Whether every one of them lives.
        busy: How many are at work.
        longest: For how many seconds the thread that has been busy longest has been so; 0 where none is.
        waiting: Pictures that wait for a thread.
        large_runs: Whether one of the threads works on a large picture.
    """

    threads: int
    alive: bool
    busy: int
    longest: float
    waiting: int
    large_runs: bool


class Pool:
    """Runs models on pictures; `submit` is called in the event loop, the work is done in threads.

    Args:
        threads: How many; as many as the networks have streams.
        queue: How many pictures may wait; of large ones, a quarter of it.
        max_pixels: Of one picture.
        on_batch: Called in a thread with the number of pictures of each run of a network.
    """

    def __init__(
        self, threads: int, queue: int, max_pixels: int, on_batch: Callable[[int], None] = lambda size: None
    ) -> None:
        self._queue = queue
        self._most_large = max(1, queue // 4)  # they are slow, and must leave places to the others
        self._max_pixels = max_pixels
        self._on_batch = on_batch
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Job] = deque()
        self._large: deque[Job] = deque()
        self._large_runs = False
        self._changed = threading.Condition()
        self._busy: dict[int, float] = {}  # number of a thread -> when it began what it does
        self._closed = False
        # Daemons: a decoder cannot be stopped, and must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"headstart-serve-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def state(self) -> PoolState:
        """Return what the pool is doing now."""
        with self._changed:
            now = time.monotonic()
            return PoolState(
                threads=len(self._threads),
                alive=all(thread.is_alive() for thread in self._threads),
                busy=len(self._busy),
                longest=now - min(self._busy.values(), default=now),
                waiting=self._places_taken(),
                large_runs=self._large_runs,
            )

    def check_room(self, pictures: int) -> None:
        """Raise QueueFull if not so many more pictures may wait."""
        if self._closed or self._places_taken() + pictures > self._queue:
            raise QueueFull

    def submit(self, predictor: Predictor, pictures: Sequence[bytes]) -> list[asyncio.Future[Outputs | ImageError]]:
        """Let pictures wait for their turn, all or none; one whose future is cancelled is forgotten.

        Whether a picture is large shows later, so that a future may raise LargeQueueFull, too.

        Raises:
            QueueFull: They would be too many.
        """
        jobs = [Job(predictor, picture, self._loop.create_future()) for picture in pictures]
        with self._changed:
            self.check_room(len(jobs))
            self._waiting += jobs
            self._changed.notify(len(jobs))
        for job in jobs:
            job.future.add_done_callback(functools.partial(self._forget, job))
        return [job.future for job in jobs]

    def close(self, seconds: float) -> int:
        """Finish what waits and end the threads; return how many are still busy after so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _places_taken(self) -> int:
        return len(self._waiting) + len(self._large)

    def _forget(self, job: Job, future: asyncio.Future[Outputs | ImageError]) -> None:
        """Let go of a picture that nobody waits for any more, so that it takes no place and no memory."""
        if future.cancelled():
            with self._changed:
                for waiting in (self._waiting, self._large):
                    if job in waiting:
                        waiting.remove(job)

    def _work(self, number: int) -> None:
        while self._worked(number):
            pass

    def _worked(self, number: int) -> bool:
        """Wait for pictures and run them; False when all is closed. What it holds goes with it, so not a loop."""
        jobs = self._take(number)
        if not jobs:
            return False
        ran_large = jobs[0].large
        results = self._results(jobs)
        with self._changed:
            for index, job in enumerate(jobs):
                if results[index] is not _LATER or job.future.cancelled():
                    continue
                if len(self._large) < self._most_large:
                    job.large = True
                    self._large.append(job)
                else:
                    results[index] = LargeQueueFull()
            if ran_large:
                self._large_runs = False
            del self._busy[number]
            self._changed.notify_all()
        with suppress(RuntimeError):  # the loop has ended: this thread was left behind
            self._loop.call_soon_threadsafe(_resolve, jobs, results)
        return True

    def _results(self, jobs: list[Job]) -> list[Any]:
        """Return outputs or errors; a picture that nobody thought of fails alone, not the others of its batch."""
        try:
            return list(self._run(jobs))
        except Exception as error:  # the thread must live on; the request says 500
            return [error] if len(jobs) == 1 else [self._results([job])[0] for job in jobs]

    def _take(self, number: int) -> list[Job]:
        """Wait for pictures and return up to `BATCH_SIZE` of one model, or a large one; none when all is closed."""
        with self._changed:
            while True:
                jobs: list[Job] = []
                if self._large and not self._large_runs:
                    self._large_runs = True
                    self._busy[number] = time.monotonic()
                    return [self._large.popleft()]
                while self._waiting and len(jobs) < BATCH_SIZE:
                    if jobs and self._waiting[0].predictor is not jobs[0].predictor:
                        break
                    job = self._waiting.popleft()
                    if not job.future.cancelled():
                        jobs.append(job)
                if jobs:
                    self._busy[number] = time.monotonic()
                    return jobs
                if self._closed:
                    return []
                self._changed.wait()

    def _run(self, jobs: list[Job]) -> list[Any]:
        predictor = jobs[0].predictor
        # A picture that is alone in the house is answered soonest by all cores together.
        network = predictor.network(many=len(jobs) > 1 or len(self._busy) > 1)
        found = [self._look(job) for job in jobs]
        readable = [job.picture for job, refused in zip(jobs, found, strict=True) if refused is None]
        outputs = iter(predictor.run(readable, network) if readable else [])
        if readable:
            self._on_batch(len(readable))
        return [next(outputs) if one is None else one for one in found]

    def _look(self, job: Job) -> Any:
        """Return why a picture is refused, `_LATER` for a large one that has not had its turn, or None."""
        try:
            info = images.inspect(job.picture, self._max_pixels)
        except ImageError as error:
            return error
        return _LATER if info.whole and info.width * info.height > LARGE_PIXELS and not job.large else None


def _resolve(jobs: list[Job], results: list[Any]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if result is _LATER or job.future.done():  # or the client has gone, or its time was up
            continue
        if isinstance(result, Exception) and not isinstance(result, ImageError):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
