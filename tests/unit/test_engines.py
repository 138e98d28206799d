"""Choosing an engine: what agrees with torch in float32 is used, what does not is said and left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from headstart.core import settings
from headstart.core.errors import CacheError
from headstart.core.progress import Progress
from headstart.learn.features import engines
from headstart.learn.features.engines import choose_engine, cosines, graph_file


class Mean(nn.Module):
    """Mean colour in four mixtures."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.mix.weight.copy_(torch.linspace(0.5, 1.5, 12).view(4, 3, 1, 1))
            self.mix.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mix(images.permute(0, 3, 1, 2).float() / 255).mean(dim=(2, 3))


class Wrong:
    """An engine whose answers are turned by so much for some of the pictures."""

    name, workers, precision = "wrong", 1, "bfloat16"

    def __init__(self, network: nn.Module, turned: tuple[int, ...], by: float) -> None:
        self._network, self._turned, self._by = network, turned, by

    def run(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            right = self._network(torch.from_numpy(images)).numpy().copy()
        right[list(self._turned), 0] *= 1 + self._by
        return right


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


def test_cosines_of_cases_worked_by_hand() -> None:
    found = cosines(np.array([[1.0, 0], [1, 1], [0, 0], [np.nan, 1]]), np.array([[2.0, 0], [1, 0], [0, 0], [1, 1]]))
    assert found == pytest.approx([1.0, 2**-0.5, 1.0, -1.0])


def test_a_cache_that_takes_no_graph_is_named_in_the_error(fresh_cache) -> None:
    settings.cache_folder().mkdir(parents=True, exist_ok=True)
    (settings.cache_folder() / "graphs").touch()  # a file where the folder should be
    with pytest.raises(CacheError, match="graphs.* cannot be written.* HEADSTART_CACHE"):
        graph_file(Mean(), "mean", (8, 8))


def test_an_engine_that_agrees_is_used_without_a_word(samples, fresh_cache) -> None:
    progress = Progress()
    engine, inaccurate = choose_engine(Mean(), "agrees", samples, "cpu", "float32", progress)
    assert (engine.name, engine.precision, inaccurate, progress.notes) == ("openvino", "float32", False, [])


@pytest.mark.parametrize(
    ("turned", "by", "used"),
    [((), 0.0, True), ((3,), 0.2, True), ((3,), 5.0, False), (tuple(range(8)), 0.3, False)],
    ids=["none", "one picture a little", "one picture far", "all a little"],
)
def test_the_middle_picture_decides_and_the_worst_has_a_bound(
    samples, fresh_cache, monkeypatch, turned: tuple[int, ...], by: float, used: bool
) -> None:
    network, progress = Mean(), Progress()

    def make(graph: object, precision: str) -> object:
        return Wrong(network, turned, by) if precision == "bfloat16" else engines.TorchEngine(network, "cpu")

    monkeypatch.setattr(engines, "OpenVINOEngine", make)
    engine, inaccurate = choose_engine(network, "wrong", samples, "cpu", "bfloat16", progress)
    assert (engine.precision == "bfloat16") == used
    assert inaccurate != used
    assert bool(progress.notes) != used
    if not used:
        assert "differ from torch in float32" in progress.notes[0]


def test_an_engine_that_could_not_run_was_not_inaccurate(samples, fresh_cache, monkeypatch) -> None:
    def fail(graph: object, precision: str) -> object:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engines, "OpenVINOEngine", fail)
    progress = Progress()
    engine, inaccurate = choose_engine(Mean(), "fails", samples, "cpu", "bfloat16", progress)
    assert (engine.name, engine.precision, inaccurate) == ("torch", "float32", False)
    assert ["out of memory" in note for note in progress.notes] == [True]


def test_of_a_part_of_a_network_the_features_at_the_end_are_judged(samples, fresh_cache, monkeypatch) -> None:
    network, progress = Mean(), Progress()
    monkeypatch.setattr(engines, "OpenVINOEngine", lambda graph, precision: Wrong(network, tuple(range(8)), 0.3))
    ignores_the_first = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        ignores_the_first.weight[:, 0] = 0
    engine, _ = choose_engine(network, "part", samples, "cpu", "bfloat16", progress, ignores_the_first)
    assert (engine.name, progress.notes) == ("wrong", [])
