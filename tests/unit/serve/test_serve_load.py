"""Too much at once, too late, or for nobody: the queue, the threads, the time-out, the limits."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from odd_pictures import encoded, gradient
from PIL import Image
from serving import PICTURE, files, serving
from waiting import until

from headstart.core import artifact
from headstart.core.errors import SettingError
from headstart.core.predictor import Predictor
from headstart.core.runtime import Network
from headstart.use.serve import heat
from headstart.use.serve.limits import Limits
from headstart.use.serve.pool import Pool, QueueFull


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is closed, every network waits."""
    opened = threading.Event()
    real = Predictor.run

    def waiting(self: Predictor, *arguments: object) -> object:
        assert opened.wait(30)
        return real(self, *arguments)  # type: ignore[arg-type]

    opened.set()  # models are warmed up
    monkeypatch.setattr(Predictor, "run", waiting)
    yield opened
    opened.set()


async def come(condition: Callable[[], bool]) -> None:
    """Wait for a condition in the event loop."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def gone(held: weakref.ref[Predictor]) -> bool:
    gc.collect()
    return held() is None


def test_heat_maps_beyond_their_queue_are_503(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    monkeypatch.setattr(heat, "heat_map", lambda predictor, picture: opened.wait(30) and "data:,")
    with serving(model) as client, ThreadPoolExecutor(2) as threads:
        four = files(*[("a.jpg", PICTURE)] * 4)
        sent = [threads.submit(client.post, "/predict?heat_map=true", files=four) for _ in range(2)]
        until(lambda: client.app.state.service.heat.waiting == 8)
        assert client.post("/predict?heat_map=true", content=PICTURE).status_code == 503
        assert client.post("/predict", content=PICTURE).status_code == 200
        opened.set()
        assert {one.result().status_code for one in sent} == {200}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("multipart", [False, True])
def test_a_body_above_the_limit_is_413_however_it_is_sent(model: Path, multipart: bool, chunked: bool) -> None:
    request = httpx.Request("POST", "http://any/", files=files(("a.bmp", bytes(150_000))))
    body, kind = (request.read(), request.headers["content-type"]) if multipart else (bytes(150_000), "image/bmp")

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))

    with serving(model, limits={"body": 100_000}) as client:
        answer = client.post("/predict", content=pieces() if chunked else body, headers={"content-type": kind})
        assert answer.status_code == 413
        assert "100,000 bytes" in answer.json()["error"]
        assert client.post("/predict", content=PICTURE).status_code == 200
        assert client.app.state.service.bodies.held == 0


def test_a_full_queue_is_503_with_retry_after_and_what_waited_is_answered(model: Path, gate: threading.Event) -> None:
    with serving(model, limits={"queue": 4, "files": 4}) as client, ThreadPoolExecutor(60) as threads:
        gate.clear()
        pool = client.app.state.service.pool
        sent = []
        while not sent or pool.state().waiting < 4:
            sent.append(threads.submit(client.post, "/predict", content=PICTURE))
            time.sleep(0.02)
            assert len(sent) < 60
        refused = client.post("/predict", content=PICTURE)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "waiting" in refused.json()["error"]
        gate.set()
        statuses = [one.result().status_code for one in sent]
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) >= 4
        assert client.post("/predict", content=PICTURE).status_code == 200


def test_pictures_of_several_requests_run_in_one_batch(model: Path, gate: threading.Event) -> None:
    with serving(model) as client, ThreadPoolExecutor(16) as threads:
        gate.clear()
        service = client.app.state.service
        sent = [threads.submit(client.post, "/predict", content=PICTURE) for _ in range(16)]
        until(lambda: service.pool.state().waiting >= 8)
        gate.set()
        assert {one.result().status_code for one in sent} == {200}
        batches = service.metrics.registry.get_sample_value("headstart_batch_pictures_count")
        assert batches is not None
        assert batches < 16
        assert service.metrics.registry.get_sample_value("headstart_batch_pictures_sum") == 16


def test_a_late_answer_is_504_and_a_late_body_408(model: Path, gate: threading.Event) -> None:
    with serving(model, limits={"seconds": 0.3}) as client:
        gate.clear()
        late = client.post("/predict", content=PICTURE)
        gate.set()
        assert late.status_code == 504
        assert "a smaller picture" in late.json()["error"]
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            assert b" 408 " in connection.recv(4096)
        until(lambda: client.post("/predict", content=PICTURE).status_code == 200)  # on a busy machine it may be late


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"queue": 0}, "queue"),
        ({"files": 65}, "never be answered"),
        ({"pixels": 10**9}, "100,000,000"),
        ({"body": 2**30}, "together"),
    ],
)
def test_limits_that_cannot_work_are_refused(values: dict[str, int], word: str) -> None:
    with pytest.raises(SettingError, match=word):
        Limits(**values)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e6])
def test_a_time_out_without_an_end_is_refused(seconds: float) -> None:
    with pytest.raises(SettingError, match="seconds"):
        Limits(seconds=seconds)


def test_late_answers_to_several_pictures_advise_fewer(model: Path, gate: threading.Event) -> None:
    with serving(model, limits={"seconds": 0.2}) as client:
        gate.clear()
        late = client.post("/predict", files=files(("a.jpg", PICTURE), ("b.jpg", PICTURE)))
        gate.set()
        assert late.status_code == 504
        assert "fewer pictures" in late.json()["error"]


def leave(client: httpx.Client, pictures: int, sent: Callable[[], bool]) -> None:
    """Send a request and close the connection once `sent` says that it has come."""
    address = urlsplit(str(client.base_url))
    request = client.build_request("POST", "/predict", files=files(*[("a.jpg", PICTURE)] * pictures))
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall("\r\n".join(["POST /predict HTTP/1.1", *lines, "", ""]).encode() + request.read())
        until(sent)


def test_pictures_of_clients_that_have_gone_are_not_computed_and_take_no_place(
    model: Path, gate: threading.Event
) -> None:
    with serving(model, limits={"queue": 8, "files": 8}) as client, ThreadPoolExecutor(20) as threads:
        service = client.app.state.service
        state = service.pool.state
        gate.clear()
        busy = []
        while len(busy) < state().threads:  # one after the other, or a thread takes several
            busy.append(threads.submit(client.post, "/predict", content=PICTURE))
            until(lambda: state().busy == len(busy))
        for _ in range(4):  # each fills the queue, and leaves it empty
            leave(client, 8, lambda: state().waiting == 8)
            until(lambda: state().waiting == 0)
        assert service.bodies.held == len(busy) * len(PICTURE)
        last = threads.submit(client.post, "/predict", content=PICTURE)
        until(lambda: state().waiting == 1)
        gate.set()
        assert {one.result().status_code for one in (*busy, last)} == {200}
        value = service.metrics.registry.get_sample_value
        assert value("headstart_batch_pictures_sum") == len(busy) + 1
        assert value("headstart_pictures_total", {"model": "insects", "outcome": "gone"}) == 4


def test_pictures_whose_time_is_up_take_no_place(model: Path, gate: threading.Event) -> None:
    with serving(model, limits={"queue": 4, "files": 4, "seconds": 0.3}) as client:
        pool = client.app.state.service.pool
        gate.clear()
        for _ in range(3 * pool.state().threads):
            assert client.post("/predict", files=files(*[("a.jpg", PICTURE)] * 4)).status_code == 504
        until(lambda: pool.state().waiting == 0)
        gate.set()


def test_while_a_thread_is_busy_for_longer_than_a_request_may_take_the_server_is_not_ready(
    model: Path, gate: threading.Event
) -> None:
    with serving(model, limits={"seconds": 0.2}) as client:
        assert client.get("/readyz").status_code == 200
        gate.clear()
        assert client.post("/predict", content=PICTURE).status_code == 504
        until(lambda: client.get("/readyz").status_code == 503)
        assert "busy for more than 0.2 s" in client.get("/readyz").json()["error"]
        assert client.get("/healthz").status_code == 200
        gate.set()
        until(lambda: client.get("/readyz").status_code == 200)


def test_a_pool_that_is_closed_leaves_a_thread_that_does_not_end(model: Path, gate: threading.Event) -> None:
    predictor = artifact.load(model)

    async def ask() -> tuple[int, int]:
        pool = Pool(2, 8, 10**7)
        gate.clear()
        (future,) = pool.submit(predictor, [PICTURE])
        await come(lambda: pool.state().busy == 1)
        left = await asyncio.to_thread(pool.close, 0.1)
        gate.set()
        await future
        return left, await asyncio.to_thread(pool.close, 30)

    assert asyncio.run(ask()) == (1, 0)


def test_large_pictures_run_one_at_a_time_and_others_pass_them(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.use.serve.pool.LARGE_PIXELS", 10_000)
    large = encoded(Image.fromarray(gradient()), "PNG")
    small = encoded(Image.fromarray(gradient(24, 32)), "PNG")
    genuine, lock, opened = Predictor.run, threading.Lock(), threading.Event()
    running: list[int] = []
    batches: list[int] = []

    def run(self: Predictor, pictures: Sequence[bytes], network: Network) -> Any:
        if large not in pictures:
            return genuine(self, pictures, network)
        with lock:
            running.append(1)
            batches.append(len(running) * len(pictures))
        assert opened.wait(30)
        with lock:
            running.pop()
        return genuine(self, pictures, network)

    predictor = artifact.load(model)
    monkeypatch.setattr(Predictor, "run", run)

    async def ask() -> None:
        pool = Pool(3, 20, 10**7)
        try:
            first = pool.submit(predictor, [large])
            await come(lambda: pool.state().large_runs)
            held = pool.submit(predictor, [small, large, PICTURE, large])
            for _ in range(10):  # a JPEG of the same size is none of them: its decoder never holds it as a whole
                (answer,) = await asyncio.gather(*pool.submit(predictor, [PICTURE]))
                assert "probabilities" in answer
            await asyncio.gather(held[0], held[2])
            await come(lambda: pool.state().waiting == 2)
            assert not any(one.done() for one in (*first, held[1], held[3]))
            held[3].cancel()
            await come(lambda: pool.state().waiting == 1)
            opened.set()
            assert all("probabilities" in answer for answer in await asyncio.gather(*first, held[1]))
        finally:
            opened.set()
            await asyncio.to_thread(pool.close, 30)

    asyncio.run(ask())
    assert batches == [1, 1]


def test_a_heat_map_is_drawn_on_one_core(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Network.run
    threads: list[str] = []

    def run(self: Network, pictures: np.ndarray) -> Any:
        threads.append(threading.current_thread().name)
        return genuine(self, pictures)

    with serving(model) as client:
        client.post("/predict", content=PICTURE)
        monkeypatch.setattr(Network, "run", run)
        assert client.post("/predict?heat_map=true", content=PICTURE).status_code == 200
    names = {name for name in threads if not name.startswith("headstart-serve")}
    assert len(threads) > 20
    assert names == {"headstart-heat", "headstart_0"}  # the first waits while the other covers parts of the picture


def test_heat_maps_of_clients_that_have_gone_hold_neither_pictures_nor_models(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, begun = threading.Event(), threading.Event()

    def draw(predictor: Predictor, picture: bytes) -> str:
        begun.set()
        assert opened.wait(30)
        return "data:,"

    monkeypatch.setattr(heat, "heat_map", draw)

    async def ask() -> None:
        maps, others = heat.Heat(), [artifact.load(model) for _ in range(3)]
        held = [weakref.ref(other) for other in others]
        try:
            busy = asyncio.create_task(maps.draw(artifact.load(model), [PICTURE]))
            await come(begun.is_set)
            while others:  # one after the other, each with as many pictures as may wait
                left = asyncio.create_task(maps.draw(others.pop(), [PICTURE] * 7))
                await asyncio.sleep(0)
                left.cancel()
                await asyncio.wait([left])
                del left
            await come(lambda: all(map(gone, held)))  # while the first is still being drawn
            opened.set()
            assert await busy == ["data:,"]
        finally:
            opened.set()
            await asyncio.to_thread(maps.close, 30)
        with pytest.raises(QueueFull):
            await maps.draw(artifact.load(model), [PICTURE])

    asyncio.run(ask())


def test_after_a_reload_idle_threads_do_not_hold_the_old_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.use.serve.app.RELOAD_SECONDS", 0.01)
    folder = Path(shutil.copytree(model, model.with_name("exchanged")))
    with serving(folder, reload=True) as client, ThreadPoolExecutor(8) as threads:
        sent = [threads.submit(client.post, "/predict", content=PICTURE) for _ in range(32)]
        assert {one.result().status_code for one in sent} == {200}
        assert client.post("/predict?heat_map=true", content=PICTURE).status_code == 200
        old = weakref.ref(client.app.state.service.models.get().predictor)
        os.utime(folder / "model.json", (1, 1))
        until(lambda: gone(old))
        assert client.post("/predict", content=PICTURE).status_code == 200


def test_large_pictures_leave_three_quarters_of_the_queue_to_others(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.use.serve.pool.LARGE_PIXELS", 10_000)
    large, opened, genuine = encoded(Image.fromarray(gradient()), "PNG"), threading.Event(), Predictor.run

    def run(self: Predictor, pictures: Sequence[bytes], network: Network) -> Any:
        assert large not in pictures or opened.wait(30)
        return genuine(self, pictures, network)

    with serving(model, limits={"queue": 8, "files": 8}) as client, ThreadPoolExecutor(8) as threads:
        state = client.app.state.service.pool.state
        monkeypatch.setattr(Predictor, "run", run)
        sent = [threads.submit(client.post, "/predict", content=large)]
        until(lambda: state().large_runs and state().waiting == 0)
        for waiting, several in ((1, 3), (2, 1)):  # where one of a request is refused, the others do not stay
            sent.append(threads.submit(client.post, "/predict", content=large))
            until(lambda waiting=waiting: state().waiting == waiting)
            refused = client.post("/predict", files=files(*[("a.png", large)] * several))
            assert refused.status_code == 503
            assert "large pictures" in refused.json()["error"]
            assert int(refused.headers["retry-after"]) >= 1
            until(lambda waiting=waiting: state().waiting == waiting)
        assert client.post("/predict", files=files(*[("a.jpg", PICTURE)] * 6)).status_code == 200
        opened.set()
        assert {one.result().status_code for one in sent} == {200}
