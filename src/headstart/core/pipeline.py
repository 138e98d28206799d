"""Read, decode and run pictures: every core does all of it for a few pictures at a time.

Each worker takes a chunk, decodes it and runs the network on it. Since decoding and the network need the same
cores, this time-sharing reaches the bound `1 / (1/network + 1/(cores x decode))` without queues between stages,
and keeps memory flat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one perhaps shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def map_ordered(work: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Yield `work(item)` for each item, in order, computed by `workers` threads a bounded distance ahead.

    An exception of `work` is raised here at its item; then, and when this generator is closed, what is under way is
    finished and nothing more is begun.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="headstart") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
