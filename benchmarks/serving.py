"""The server under load: its share of the bound of engine and decoder, one idle client, and a naive server beside it.

The bound is `1 / (1/engine + 1/(cores x decode))`, both alone measured in the same round, as is the naive server:
FastAPI, torch in eager mode and PIL, one picture a request. 32 connections send JPEGs of cats and dogs as fast as they
are answered (wrk). Everything shares the machine: the client's work is part of what the server's side pays for.
"""

from __future__ import annotations

import http.client
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from harness import FULL, Effort, write_lite0
from rows import Row, row
from servers import Server, fit_model, headstart_server, naive_server, wrk

CONNECTIONS = 32
SHARE, IDLE = (
    "server: share of the bound, 32 connections",
    "server: one idle client against bare engine and decoder",
)
BOUNDS, LIMITS = {SHARE: 0.75}, {IDLE: 3}


def measure(data: Path, effort: Effort = FULL) -> Iterator[Row]:
    """Yield the rows of the loaded and of the idle server."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        model, pictures = fit_model(data, folder), copy_pictures(data, folder / "pictures")
        servers = [stack.enter_context(headstart_server(model, folder))]
        servers.append(stack.enter_context(naive_server(write_lite0(folder / "lite0.safetensors"))))
        for server in servers:
            wrk(server, pictures, connections=1, seconds=3)  # what is done at the first request is done
        rounds = [one_round(model, pictures, *servers, seconds=2 if effort.quick else 15) for _ in effort.seeds]
    column = {key: [one[key] for one in rounds] for key in rounds[0]}
    served, bound = np.array(column["served"]), np.array(column["bound"])
    yield row("server: engine alone, float32", column["engine"], "pictures/s")
    yield row("server: decoding alone, all cores", column["decode"], "pictures/s")
    yield row("server: bound of the two", column["bound"], "pictures/s")
    yield row("server: 32 connections", column["served"], "pictures/s")
    yield row(SHARE, served / bound, "x", at_least=BOUNDS[SHARE])
    yield row("server: p50, 32 connections", column["p50"], "ms")
    yield row("server: p99, 32 connections", column["p99"], "ms")
    yield row("server: bare engine and decoder, one picture, p50", column["bare"], "ms")
    yield row("server: one idle client, p50", column["idle"], "ms")
    idle = np.array(column["idle"]) / np.array(column["bare"])
    yield row(IDLE, idle, "x", at_most=LIMITS[IDLE])
    yield row("server: naive peer (FastAPI, torch eager, PIL), 32 connections", column["naive"], "pictures/s")
    yield row("server: against the naive peer", served / np.array(column["naive"]), "x")


def copy_pictures(data: Path, folder: Path, every: int = 10) -> Path:
    """Copy each tenth picture of cats and dogs into one folder, as wrk holds them all in memory."""
    folder.mkdir()
    for path in sorted((data / "catdog").rglob("*.jpg"))[::every]:
        shutil.copyfile(path, folder / f"{path.parent.name}-{path.name}")
    return folder


def one_round(model: Path, pictures: Path, server: Server, naive: Server, *, seconds: int) -> dict[str, float]:
    """Measure everything once, one after the other, so that each ratio is of one moment of the machine."""
    from headstart.core import artifact

    predictor = artifact.load(model)
    data = [path.read_bytes() for path in sorted(pictures.iterdir())]
    decode, engine = decode_rate(predictor, data), engine_rate(predictor, data, seconds)
    loaded = wrk(server, pictures, connections=CONNECTIONS, seconds=seconds)
    peer = wrk(naive, pictures, connections=CONNECTIONS, seconds=seconds)
    bare, idle = idle_times(predictor, server, (data * 100)[:100])
    return {
        "decode": decode,
        "engine": engine,
        "bound": 1 / (1 / engine + 1 / decode),
        "served": loaded["status 200"] / loaded["seconds"],
        "p50": loaded["p50"],
        "p99": loaded["p99"],
        "naive": peer["status 200"] / peer["seconds"],
        "bare": bare,
        "idle": idle,
    }


def decode_rate(predictor, data: list[bytes]) -> float:
    """Return pictures/s of decoding alone, on all cores."""
    from headstart.core.machine import cores

    many = data * max(1, 1500 // len(data))
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(predictor.preprocessing.load, data))
        start = time.perf_counter()
        for _ in pool.map(predictor.preprocessing.load, many):
            pass
        return len(many) / (time.perf_counter() - start)


def engine_rate(predictor, data: list[bytes], seconds: int) -> float:
    """Return pictures/s of the network alone, one stream a core, the better of one and of four pictures at a time."""
    from headstart.core.pipeline import map_ordered

    network = predictor.network(many=True)
    rates = []
    for size in (1, 4):
        batch = np.stack([predictor.preprocessing.load(one) for one in data[:size]])
        list(map_ordered(network.run, [batch] * 8, network.streams))
        count, start = 0, time.perf_counter()
        for _ in map_ordered(network.run, until(batch, start + seconds / 3), network.streams):
            count += size
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def until(batch: np.ndarray, end: float) -> Iterator[np.ndarray]:
    while time.perf_counter() < end:
        yield batch


def idle_times(predictor, server: Server, data: list[bytes]) -> tuple[float, float]:
    """Return the medians in ms of decoding and running one picture bare, and of asking the server, in turns."""
    network = predictor.network(many=False)
    client = Client(server.url)
    bare, asked = [], []
    for number, picture in enumerate(data):
        start = time.perf_counter()
        network.run(predictor.preprocessing.load(picture)[None])
        middle = time.perf_counter()
        status = client.post(picture)
        end = time.perf_counter()
        assert status == 200
        if number >= 5:
            bare.append(1000 * (middle - start))
            asked.append(1000 * (end - middle))
    client.close()
    return statistics.median(bare), statistics.median(asked)


class Client:
    """One connection that is kept open."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._address, timeout=60)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Send a picture and return the status."""
        self._connection.request("POST", "/predict", body, headers or {"Content-Type": "image/jpeg"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        """Close it; the next request opens another."""
        self._connection.close()
