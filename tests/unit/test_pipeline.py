"""Working ahead: order, bounded distance, errors at their place."""

import threading
import time

import pytest

from headstart.core.pipeline import chunked, map_ordered


def test_chunks_cover_everything_in_order() -> None:
    assert list(chunked(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunked([], 3)) == []


def test_results_come_in_order_whatever_finishes_first() -> None:
    def work(item: int) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item * 2

    assert list(map_ordered(work, range(50), workers=4)) == [2 * item for item in range(50)]


def test_an_endless_source_is_read_only_a_bounded_distance_ahead() -> None:
    taken = []

    def source():
        item = 0
        while True:
            taken.append(item)
            yield item
            item += 1

    before = set(threading.enumerate())
    results = map_ordered(lambda item: item, source(), workers=2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(taken) == 10 + 2 * 2
    results.close()
    assert set(threading.enumerate()) <= before


def test_an_error_is_raised_at_its_item_and_stops_the_rest() -> None:
    begun = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            begun.append(item)
        if item == 5:
            raise ValueError("item 5")
        return item

    seen = []
    with pytest.raises(ValueError, match="item 5"):
        for result in map_ordered(work, range(1000), workers=2):
            seen.append(result)
    assert seen == [0, 1, 2, 3, 4]
    assert len(begun) < 20
