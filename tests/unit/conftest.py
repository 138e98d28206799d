"""What the unit tests of the server share; a file with a model or a client of another kind has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model of three classes."""
    from serving import write_model

    return write_model(tmp_path_factory.mktemp("models") / "insects")


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[httpx.Client]:
    """A client of a server of that model, in this process."""
    from serving import serving

    with serving(model) as client:
        yield client
