"""Servers on loopback: in this process, or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from odd_pictures import encoded, gradient
from PIL import Image

from headstart.use.serve import guards
from headstart.use.serve.app import create_app
from headstart.use.serve.limits import Limits
from headstart.use.serve.models import Models
from headstart.use.serve.run import bind, configure

PICTURE = encoded(Image.fromarray(gradient()), "JPEG")
KEY = "a-key-of-more-than-16"


@contextmanager
def serving(*folders: Path, **options: Any) -> Iterator[httpx.Client]:
    """Serve models in a thread of this process; `limits`, `access` and others go to `create_app`."""
    limits, access = Limits(**options.pop("limits", {})), guards.Access(**options.pop("access", {}))
    app = create_app(Models(map(str, folders)), limits, access, **{"access_log": False, **options})
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(configure(app, 30))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.01)
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            client.app = app  # type: ignore[attr-defined]
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()


@contextmanager
def serve_command(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `headstart serve … --port 0` and give its process and its address; it is stopped at the end."""
    command = [sys.executable, "-m", "headstart", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at http://" not in line:
            raise AssertionError(f"no address in {line!r}: {process.communicate(timeout=30)[1]}")
        yield process, line.split(" at ")[1].split()[0]
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def files(*pictures: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", one) for one in pictures]


def assert_framed(answer: httpx.Response) -> None:
    """The headers that every answer has, whatever its status."""
    for name, value in guards.HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["x-request-id"]) == 32
    assert "server" not in answer.headers
