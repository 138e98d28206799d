"""What the tests of the server share; a file with a model or a client of another kind has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import serving
from tiny_models import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model of three classes."""
    return write_model(tmp_path_factory.mktemp("models") / "insects")


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[httpx.Client]:
    """A client of a server of that model, in this process."""
    with serving(model) as client:
        yield client
