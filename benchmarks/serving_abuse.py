"""The server under more than it can do, and under requests that are broken, truncated, too large or lying.

Overload: so many connections (wrk) that ten times as many requests come as can be answered, for 60 s; whoever does not
fit gets 503. Eight more connections ask all the while and tell how long the answered wait. Abuse: 10,000 requests, a
third bad.
Aimed at: only 200 and 503 under overload, no 5xx but 503 and 504 under abuse, flat memory, nothing on disk.
"""

from __future__ import annotations

import http.client
import io
import random
import socket
import statistics
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from harness import FULL, Effort, NotMeasured
from rows import Row, row
from servers import Server, fit_model, headstart_server, wrk
from serving import CONNECTIONS, Client, copy_pictures

MEGABYTE = 1024**2
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
# Tried for a moment each, until the load is heavy enough.
LOADS = (320, 640, 1280, 2560)

HEAVY = "overload: requests offered for one that is answered"
OTHERS = "overload: neither 200 nor 503, or hung up"
P99 = "overload: p99 of the answered"
GROWTH = "overload: growth of memory from the second third to the last"
BACK = "overload: until one client is answered as before"
FAILED = "abuse: 5xx but 503 and 504 in 10,000 requests, a third bad"
UNANSWERED = "abuse: good requests that were not answered"
ABUSED = "abuse: growth of memory after the first tenth"
FILES = "abuse: files in the server's folders"
WRITTEN = "abuse: bytes that the server wrote to disk"
BOUNDS = {HEAVY: 10}
# The p99 in ms: a sixth of what a request may take before it is 504.
LIMITS = {
    OTHERS: 0,
    P99: 5000,
    GROWTH: 20,
    BACK: 5,
    FAILED: 0,
    UNANSWERED: 0,
    ABUSED: 30,
    FILES: 0,
    WRITTEN: 0,
}


def measure(data: Path, effort: Effort = FULL) -> Iterator[Row]:
    """Yield the rows of overload, then those of abuse."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, pictures = fit_model(data, folder), copy_pictures(data, folder / "pictures")
        with headstart_server(model, folder) as server:
            yield from overload(server, pictures, seconds=3 if effort.quick else 60)
        with headstart_server(model, folder, "--max-body", "1M") as server:
            yield from abuse(server, pictures, count=300 if effort.quick else 10_000)


def overload(server: Server, pictures: Path, *, seconds: int) -> Iterator[Row]:
    """Load a server with ten times what it can do and see that it bends and comes back."""
    picture = min(pictures.iterdir()).read_bytes()
    wrk(server, pictures, connections=CONNECTIONS, seconds=max(2, seconds // 12))
    before = quiet_latency(server, picture)
    connections = heavy_load(server, pictures)
    time_until_normal(server, picture, before, since=time.perf_counter())
    beside = Beside(server, picture)
    try:
        result = wrk(server, pictures, connections=connections, seconds=seconds, threads=2)
    finally:
        end = time.perf_counter()
        beside.stop()
    back = time_until_normal(server, picture, before, since=end)
    statuses = counted(result)
    others = sum(count for status, count in statuses.items() if status not in (200, 503))
    memory, third = beside.memory, len(beside.memory) // 3
    told = f"{connections:,} connections, {sum(statuses.values()) / result['seconds']:,.0f} requests/s, {statuses}"
    yield row(HEAVY, [offered(result)], "x", at_least=BOUNDS[HEAVY], note=told)
    broken = others + result["errors"] + beside.broken
    yield row(OTHERS, [broken], "", at_most=LIMITS[OTHERS], note=told)
    yield row("overload: answered", [statuses.get(200, 0) / result["seconds"]], "pictures/s", note=told)
    asked = f"{len(beside.waits)} asked beside the load"
    yield row(P99, [percentile(beside.waits, 99)], "ms", at_most=LIMITS[P99], note=asked)
    growth = statistics.median(memory[-third:]) - statistics.median(memory[third : 2 * third])
    yield row(GROWTH, [growth], "MB", at_most=LIMITS[GROWTH])
    yield row(BACK, [back], "s", at_most=LIMITS[BACK])


def heavy_load(server: Server, pictures: Path) -> int:
    """Return how many connections offer ten times what is answered, with some to spare, or the most that can be tried.

    Client and server share the machine, so that more connections offer no more from where refusing takes it all. With
    very many, a moment is over before the first answer has come: the load before is taken then.
    """
    chosen = LOADS[0]
    for connections in LOADS:
        try:
            found = offered(wrk(server, pictures, connections=connections, seconds=10, threads=2))
        except NotMeasured:
            break
        chosen = connections
        if found >= 1.2 * BOUNDS[HEAVY]:
            break
    return chosen


def counted(result: dict[str, float]) -> dict[int, int]:
    """Return how often each status came."""
    return {int(name.split()[1]): int(count) for name, count in result.items() if name.startswith("status")}


def offered(result: dict[str, float]) -> float:
    """Return how many requests came for one that was answered with 200."""
    return sum(counted(result).values()) / result["status 200"]


class Beside:
    """Eight connections that ask beside a load until they are stopped.

    Attributes:
        waits: Of the requests that were answered, in ms.
        memory: Of the server, in MB, in the order of time.
        broken: Requests that got no answer at all.
    """

    def __init__(self, server: Server, picture: bytes) -> None:
        self.waits: list[float] = []
        self.memory: list[float] = []
        self.broken = 0
        self._server, self._picture, self._end = server, picture, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        """Let them finish what they are at."""
        self._end.set()
        for one in self._threads:
            one.join()

    def _ask(self) -> None:
        client = Client(self._server.url)
        while not self._end.is_set():
            start = time.perf_counter()
            try:
                if client.post(self._picture) == 200:
                    self.waits.append(1000 * (time.perf_counter() - start))
                self.memory.append(self._server.memory())
            except (OSError, http.client.HTTPException):  # counted, and the next one asks on a new connection
                self.broken += 1
                client.close()
            time.sleep(0.02)
        client.close()


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] if ordered else float("nan")


def quiet_latency(server: Server, picture: bytes, count: int = 30) -> float:
    """Return the median of one client's waits, in ms."""
    client, waits = Client(server.url), []
    for _ in range(count):
        start = time.perf_counter()
        client.post(picture)
        waits.append(1000 * (time.perf_counter() - start))
    client.close()
    return statistics.median(waits)


def time_until_normal(server: Server, picture: bytes, before: float, *, since: float) -> float:
    """Return the seconds until ten answers in a row are 200 and their median is within twice of before."""
    client, waits = Client(server.url), []
    while time.perf_counter() - since < 30:
        start = time.perf_counter()
        status = client.post(picture)
        waits = [*waits, 1000 * (time.perf_counter() - start)][-10:] if status == 200 else []
        if len(waits) == 10 and statistics.median(waits) <= 2 * before:
            break
    client.close()
    return time.perf_counter() - since


def abuse(server: Server, pictures: Path, *, count: int) -> Iterator[Row]:
    """Send good and bad requests in a seeded order from eight connections."""
    data = [path.read_bytes() for path in sorted(pictures.iterdir())]
    bad = bad_requests(data)
    rng = random.Random(0)
    plan = [rng.randrange(len(bad)) if rng.random() < 1 / 3 else None for _ in range(count)]
    clients = threading.local()
    seen: Counter[int] = Counter()
    expected_good: Counter[int] = Counter()
    memory: list[float] = []

    def send(number: int) -> None:
        client = clients.client = getattr(clients, "client", None) or Client(server.url)
        which = plan[number]
        try:
            status = client.post(data[number % len(data)]) if which is None else bad[which](client, server)
        except OSError:  # we lied about the length, and the server hung up
            client.close()
            status = 0
        seen[status] += 1
        if which is None:
            expected_good[status] += 1
        if number % 50 == 0:
            memory.append(server.memory())

    written = server.written()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(count)))
    note = f"statuses {dict(sorted(seen.items()))} (0: hung up), of the good {dict(expected_good)}"
    failures = sum(found for status, found in seen.items() if status >= 500 and status not in (503, 504))
    name = FAILED.replace("10,000", f"{count:,}")
    yield row(name, [failures], "", at_most=LIMITS[FAILED], note=note)
    unanswered = expected_good.total() - expected_good[200]
    yield row(UNANSWERED, [unanswered], "", at_most=LIMITS[UNANSWERED])
    tenth = max(1, len(memory) // 10)
    growth = statistics.median(memory[-tenth:]) - statistics.median(memory[tenth : 2 * tenth])
    yield row(ABUSED, [growth], "MB", at_most=LIMITS[ABUSED])
    yield row(FILES, [len(server.files())], "", at_most=LIMITS[FILES])
    yield row(WRITTEN, [server.written() - written], "bytes", at_most=LIMITS[WRITTEN])


def bad_requests(data: list[bytes]) -> list[Callable[[Client, Server], int]]:
    """Return one function for each way to be bad: it sends a request and returns the status."""
    from PIL import Image

    good = data[0]
    gif, jpeg = io.BytesIO(), {"Content-Type": "image/jpeg"}
    Image.new("RGB", (300, 300)).save(gif, "GIF")
    flipped = bytearray(good)
    flipped[len(good) // 2 : len(good) // 2 + 200] = random.Random(1).randbytes(200)
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
    bodies: list[tuple[bytes, dict[str, str]]] = [
        (good[: len(good) // 3], jpeg),
        (good[:20], jpeg),
        (bytes(flipped), jpeg),
        (random.Random(2).randbytes(5000), jpeg),
        (b"", jpeg),
        (b"/etc/passwd", jpeg),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:1/"/></svg>', jpeg),
        (gif.getvalue()[:100], {"Content-Type": "image/gif"}),
        (png_claiming(60_000, 60_000), {"Content-Type": "image/png"}),
        (png_claiming(300, 300), {"Content-Type": "image/png"}),
        (bytes(2 * MEGABYTE), jpeg),
        (part % (b"../../x.jpg", good), FORM),
        (b"--b\r\n\r\n\r\n--b--", FORM),
        (part % (b"a", b"text") + part % (b"b", good[:200]) + b"--b--\r\n", FORM),
        ((part % (b"many.jpg", b"x")) * 100 + b"--b--\r\n", FORM),
        (part % (b"large.bmp", bytes(2 * MEGABYTE)) + b"--b--\r\n", FORM),
    ]
    made: list[Callable[[Client, Server], int]] = [
        lambda client, server, body=body, headers=headers: client.post(body, headers) for body, headers in bodies
    ]
    return [*made, shorter_than_said, endless]


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that its few bytes of pixels do not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def shorter_than_said(client: Client, server: Server) -> int:
    """Say a length, send less, and hang up."""
    return raw(server, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc")


def endless(client: Client, server: Server) -> int:
    """Send chunks beyond the limit without an end."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return raw(server, head + (b"10000\r\n" + bytes(65536) + b"\r\n") * 20, wait=True)


def raw(server: Server, sent: bytes, *, wait: bool = False) -> int:
    """Send bytes on a connection of their own; return the status that came, or 0 where we hung up."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(sent)
        return int(connection.recv(100).split()[1]) if wait else 0
