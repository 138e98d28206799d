"""A small model to serve, and servers on loopback: in this process, or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from odd_pictures import encoded, gradient
from PIL import Image
from torch import nn

from headstart.core import artifact
from headstart.core.preprocessing import Preprocessing
from headstart.learn.save import write_network
from headstart.networks.export import Classifier
from headstart.networks.novelty import Novelty
from headstart.use.serve import guards
from headstart.use.serve.app import create_app
from headstart.use.serve.limits import Limits
from headstart.use.serve.models import Models
from headstart.use.serve.run import bind, configure

CLASSES = ("ant", "bee", "wasp")
PICTURE = encoded(Image.fromarray(gradient()), "JPEG")
KEY = "a-key-of-more-than-16"


class TinyBackbone(nn.Module):
    """uint8 `(n, 32, 32, 3)` -> `(n, 8)`."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(images.permute(0, 3, 1, 2).float() / 127.5 - 1)).mean((2, 3))


def write_model(
    folder: Path, *, classes: tuple[str, ...] = CLASSES, seed: int = 0, known: np.ndarray | None = None
) -> Path:
    """Write a model folder of a tiny network with random weights, whose answers are far from uniform.

    Pictures `known`, uint8 `(n, 32, 32, 3)`, give it a novelty, which is 0 for them.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Linear(8, len(classes))
        nn.init.normal_(head.weight, std=20.0)
        backbone = TinyBackbone()
        novelty = None if known is None else Novelty(backbone(torch.from_numpy(known)).detach(), neighbours=1)
        network = Classifier(backbone, head, novelty).eval()
    preprocessing = Preprocessing((32, 32))
    samples = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with artifact.new_model_folder(folder) as temporary:
        write_network(temporary, network, classes, preprocessing, samples)
        artifact.write_description(temporary, {"classes": list(classes), "preprocessing": preprocessing.to_json()})
    return folder


@contextmanager
def serving(*folders: Path, **options: Any) -> Iterator[httpx.Client]:
    """Serve models in a thread of this process; `limits` and others go to `create_app`."""
    limits = Limits(**options.pop("limits", {}))
    app = create_app(Models(map(str, folders)), limits, **{"access_log": False, **options})
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


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; what is shown is that it comes, not when."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_framed(answer: httpx.Response) -> None:
    """The headers that every answer has, whatever its status."""
    for name, value in guards.HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["x-request-id"]) == 32
    assert "server" not in answer.headers
