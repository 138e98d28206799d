"""Request bodies: too large, damaged, late, too many at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from serving import PICTURE, files, serving
from waiting import until


def test_a_body_that_is_too_large_is_refused_before_the_rest_of_it_is_sent(model: Path) -> None:
    with serving(model, limits={"body": 100_000}) as client:
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n%s\r\n" % (200_000, bytes(200_000)))  # and no end
            assert b" 413 " in connection.recv(4096)


def test_too_many_pictures_and_too_many_pixels_are_told(model: Path) -> None:
    with serving(model, limits={"files": 2, "pixels": 10_000}) as client:
        answer = client.post("/predict", files=files(*[("a.jpg", PICTURE)] * 3))
        assert answer.status_code == 413
        assert "more than 2 pictures" in answer.json()["error"]
        large = client.post("/predict", content=PICTURE)
        assert large.status_code == 422
        assert "160 x 120 pixels; at most 0.01 megapixels" in large.json()["error"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "word"),
    [
        (b"", "image/jpeg", 400, "empty"),
        (b"--x\r\n", "multipart/form-data", 400, "boundary"),
        (b"nothing of the kind", "multipart/form-data; boundary=x", 400, "damaged"),
        (
            b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nabc',
            "multipart/form-data; boundary=x",
            400,
            "cut off",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nabc\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            400,
            "'files'",
        ),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "'files'"),
        (b"x", f"multipart/form-data; boundary={'b' * 5000}", 400, "damaged"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_400(
    client: httpx.Client, body: bytes, kind: str, status: int, word: str
) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert word in answer.json()["error"]


def test_a_compressed_body_is_415(client: httpx.Client) -> None:
    assert client.post("/predict", content=PICTURE, headers={"content-encoding": "gzip"}).status_code == 415


def test_bodies_that_are_too_much_together_are_503(model: Path) -> None:
    with serving(model, limits={"body": 100_000, "bodies": 120_000}) as client:
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n")
            connection.sendall(bytes(80_000))
            until(lambda: client.app.state.service.bodies.held == 80_000)
            refused = client.post("/predict", content=bytes(50_000))
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        until(lambda: client.app.state.service.bodies.held == 0)
        assert client.post("/predict", content=PICTURE).status_code == 200


def test_a_body_that_falls_silent_is_408_and_what_it_held_is_free(model: Path) -> None:
    with serving(model, limits={"silence": 0.3}) as client:
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            answer = connection.recv(65536)
            assert b" 408 " in answer
            assert b"nothing more of the body" in answer + connection.recv(65536)
        until(lambda: client.app.state.service.bodies.held == 0)


def test_a_body_that_comes_slowly_but_steadily_is_read(model: Path) -> None:
    with serving(model, limits={"silence": 3.0}) as client:

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(PICTURE), 1000):
                yield PICTURE[start : start + 1000]
                time.sleep(0.01)

        assert client.post("/predict", content=pieces()).status_code == 200
