"""The server under more than it can do, and under requests that are broken, truncated, too large or lying.

Overload: ten times the 32 connections of the loaded server (wrk), for 60 s; whoever does not fit gets 503.
Eight more connections ask all the while and tell how long the answered wait. Abuse: 10,000 requests, a third bad.
Aimed at: only 200 and 503 under overload, no 5xx but 503 and 504 under abuse, flat memory, nothing on disk.
"""

from __future__ import annotations

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

from harness import FULL, Effort
from rows import Row, row
from servers import Server, fit_model, headstart_server, wrk
from serving import CONNECTIONS, Client, copy_pictures

MEGABYTE = 1024**2
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


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
    """Load a server with ten times its connections and see that it bends and comes back."""
    picture = min(pictures.iterdir()).read_bytes()
    wrk(server, pictures, connections=CONNECTIONS, seconds=max(2, seconds // 12))
    before = quiet_latency(server, picture)
    memory, waits, stop = [], [], threading.Event()

    def ask() -> None:
        client = Client(server.url)
        while not stop.is_set():
            start = time.perf_counter()
            if client.post(picture) == 200:
                waits.append(1000 * (time.perf_counter() - start))
            memory.append(server.memory())
            time.sleep(0.02)
        client.close()

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for one in asking:
        one.start()
    try:
        result = wrk(server, pictures, connections=10 * CONNECTIONS, seconds=seconds)
    finally:
        end = time.perf_counter()
        stop.set()
        for one in asking:
            one.join()
    back = time_until_normal(server, picture, before, since=end)
    statuses = {int(name.split()[1]): int(count) for name, count in result.items() if name.startswith("status")}
    others = sum(count for status, count in statuses.items() if status not in (200, 503))
    third = len(memory) // 3
    told = f"statuses {statuses}, {sum(statuses.values()) / result['seconds']:.0f} requests/s offered"
    yield row("overload: neither 200 nor 503, or hung up", [others + result["errors"]], "", at_most=0, note=told)
    yield row("overload: answered", [statuses.get(200, 0) / result["seconds"]], "pictures/s", note=told)
    yield row(
        "overload: p99 of the answered", [percentile(waits, 99)], "ms", note=f"{len(waits)} asked beside the load"
    )
    growth = statistics.median(memory[-third:]) - statistics.median(memory[third : 2 * third])
    yield row("overload: growth of memory from the second third to the last", [growth], "MB", at_most=20)
    yield row("overload: until one client is answered as before", [back], "s", at_most=5)


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
    yield row(f"abuse: 5xx but 503 and 504 in {count:,} requests, a third bad", [failures], "", at_most=0, note=note)
    yield row(
        "abuse: good requests that were not answered", [expected_good.total() - expected_good[200]], "", at_most=0
    )
    tenth = max(1, len(memory) // 10)
    growth = statistics.median(memory[-tenth:]) - statistics.median(memory[tenth : 2 * tenth])
    yield row("abuse: growth of memory after the first tenth", [growth], "MB", at_most=30)
    yield row("abuse: files in the server's folders", [len(server.files())], "", at_most=0)
    yield row("abuse: bytes that the server wrote to disk", [server.written() - written], "bytes", at_most=0)


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
