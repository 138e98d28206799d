"""The store of features: what is committed survives kill -9, runs side by side are safe, the limit holds."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from headstart.core.errors import CacheError
from headstart.learn.features.records import Records
from headstart.learn.features.store import Store

pytestmark = pytest.mark.usefixtures("fresh_cache")


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_what_is_written_is_read_again_and_the_rest_is_missing() -> None:
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    with Store("space", {"backbone": "b"}, (5,)) as opened:
        opened.write([(key(i), values[i]) for i in range(3)])
        assert opened.missing([key(0), key(7), key(2)]) == [1]
        assert (opened.read([key(2), key(0)]) == values[[2, 0]]).all()
        with pytest.raises(CacheError, match="lacks a feature"):
            opened.read([key(9)])


def test_a_value_of_another_size_counts_as_missing() -> None:
    with Store("space", {}, (5,)) as opened:
        opened.write([(key(0), np.zeros(5))])
    with Store("space", {}, (6,)) as opened:
        assert opened.missing([key(0)]) == [0]


def test_the_same_space_may_be_open_twice_in_one_process() -> None:
    with Store("space", {}, (2,)) as one, Store("space", {}, (2,)) as other:
        one.write([(key(0), np.ones(2))])
        assert other.missing([key(0)]) == []
    with Store("space", {}, (2,)) as again:
        assert again.read([key(0)]).tolist() == [[1, 1]]


WRITER = """
    import os, sys, numpy as np
    from headstart.learn.features.store import Store
    start, count = int(sys.argv[1]), int(sys.argv[2])
    with Store("space", {"backbone": "b"}, (256,)) as opened:
        for number in range(start, start + count):
            opened.write([(number.to_bytes(16, "big"), np.full(256, number))])
            print(number, flush=True)
"""


def writer(start: int, count: int) -> subprocess.Popen:
    code = textwrap.dedent(WRITER)
    return subprocess.Popen([sys.executable, "-c", code, str(start), str(count)], stdout=subprocess.PIPE, text=True)


def test_kill_9_loses_nothing_that_was_committed() -> None:
    process = writer(0, 100_000)
    assert process.stdout is not None
    committed = [int(process.stdout.readline()) for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Store("space", {"backbone": "b"}, (256,)) as opened:
        assert opened.missing([key(number) for number in committed]) == []
        assert (opened.read([key(number) for number in committed])[:, 0] == committed).all()


def test_two_processes_write_side_by_side() -> None:
    processes = [writer(0, 200), writer(1000, 200)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Store("space", {"backbone": "b"}, (256,)) as opened:
        assert opened.missing([key(number) for number in [*range(200), *range(1000, 1200)]]) == []


def test_a_full_cache_is_a_clear_error_and_keeps_what_it_had(monkeypatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "1M")
    with Store("space", {}, (1000,)) as opened:
        opened.write([(key(0), np.zeros(1000))])
        with pytest.raises(CacheError, match="limit"):
            for number in range(1, 1000):
                opened.write([(key(number), np.zeros(1000))])
        assert opened.missing([key(0)]) == []


def test_a_cache_folder_that_cannot_be_made_says_which_setting_to_change(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="HEADSTART_CACHE"), Store("space", {}, (1,)):
        pass


def test_records_are_kept_by_content() -> None:
    with Records() as records:
        assert "a" not in records
        records["a"] = {"width": 3}
        assert records["a"] == {"width": 3}
    with Records() as records:
        assert records["a"] == {"width": 3}
        assert list(records) == ["a"]
        with pytest.raises(KeyError):
            records["b"]
