"""Engines: each against torch in float32; what agrees with it is chosen, what does not is said and left."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import KINDS, draw
from tiny_backbones import tiny_backbone
from torch import nn

from headstart.core import settings
from headstart.core.errors import CacheError, SettingError
from headstart.core.predictor import BATCH_SIZE
from headstart.core.progress import Progress
from headstart.learn.features import engines
from headstart.learn.features.engines import ENGINES, MIN_COSINE, Engine, choose_engine, cosines, graph_file


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


class FromElsewhere(nn.Sequential):
    """Layers that get new parameters when they are moved to the processor, as those of a graphics card do."""

    def to(self, *where: object, **how: object) -> FromElsewhere:
        super().to(torch.float64)
        super().to(torch.float32)
        return super().to(*where, **how)


def test_a_network_that_was_moved_for_the_check_can_be_loaded_into_and_trained(samples, fresh_cache) -> None:
    network, rest = FromElsewhere(Mean()), FromElsewhere(nn.Linear(4, 2), nn.BatchNorm1d(2))
    choose_engine(network, "moved", samples, "cpu", "float32", Progress(), rest)
    for part in (network, rest):
        part.load_state_dict({name: tensor.clone() for name, tensor in part.state_dict().items()})
        part.train().requires_grad_(True)
    rest(network(torch.from_numpy(samples))).square().sum().backward()
    assert all(parameter.grad is not None for parameter in (*network.parameters(), *rest.parameters()))


# The contract of every engine: a small network of timm's on pictures that are not square.

SIZE = (24, 40)
# Of the largest feature. Both engines are 4e-7 away from torch in float32, which is as far from float64 itself; the
# hundredfold is for other processors and their kernels, and still a hundredth of what bfloat16 changes (4e-3 to 6e-3).
ROUNDING = 4e-5


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return tiny_backbone("test_resnet", tmp_path_factory.mktemp("weights")).network.eval()


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([draw(KINDS[seed % 3], SIZE, seed) for seed in range(12)])


@pytest.fixture(scope="module")
def reference(network: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """Of torch in float32, in its own layout, each picture alone."""
    with torch.inference_mode():
        found = np.concatenate([network(torch.from_numpy(one[None])).numpy() for one in pictures])
    apart = np.abs(found[:, None] - found[None]).max(axis=2)[~np.eye(len(found), dtype=bool)]
    assert apart.min() > 100 * ROUNDING * np.abs(found).max(), "a picture in another's place would not be noticed"
    return found


def made(name: str, network: nn.Module, device: str = "cpu", precision: str = "float32") -> Engine:
    # A copy: an engine may put the network into another layout or onto another device.
    return ENGINES[name](copy.deepcopy(network), "contract", SIZE, device, precision)


def assert_equal_but_for_rounding(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, network: nn.Module) -> Engine:
    engine = made(request.param, network)
    assert (engine.name, engine.precision) == (request.param, "float32")
    assert engine.workers >= 1
    return engine


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_an_engine_gives_the_features_of_torch_in_float32(engine, pictures, reference, number: int) -> None:
    assert_equal_but_for_rounding(engine.run(pictures[:number]), reference[:number])


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_in_bfloat16_gives_float32_features_that_may_be_used(name, network, pictures, reference) -> None:
    engine = made(name, network, precision="bfloat16")
    found = engine.run(pictures)
    assert (engine.precision, found.dtype, found.shape) == ("bfloat16", np.float32, reference.shape)
    assert cosines(found, reference).min() >= MIN_COSINE
    nearest = np.abs(found[:, None] - reference[None]).max(axis=2).argmin(axis=1)
    assert nearest.tolist() == list(range(len(pictures)))


def test_four_threads_at_once_are_each_given_their_own_pictures(engine, pictures, reference) -> None:
    together = threading.Barrier(4)

    def ask(thread: int) -> list[np.ndarray]:
        together.wait(timeout=60)
        return [engine.run(pictures[3 * thread : 3 * thread + 3]) for _ in range(10)]

    with ThreadPoolExecutor(4) as threads:
        for thread, answers in enumerate(threads.map(ask, range(4))):
            for answer in answers:
                assert_equal_but_for_rounding(answer, reference[3 * thread : 3 * thread + 3])


def test_the_features_of_a_picture_do_not_depend_on_how_many_others_are_in_the_batch(engine, pictures) -> None:
    together = engine.run(pictures[:BATCH_SIZE])
    for number in range(1, BATCH_SIZE):
        assert np.array_equal(engine.run(pictures[:number]), together[:number])
    assert_equal_but_for_rounding(engine.run(pictures)[:BATCH_SIZE], together)  # larger than what `extract` asks for


def test_features_that_were_given_stay_and_so_do_the_pictures(engine, pictures, reference) -> None:
    ours = pictures[:4].copy()
    first = engine.run(ours)
    engine.run(pictures[4:8])
    assert_equal_but_for_rounding(first, reference[:4])
    assert np.array_equal(ours, pictures[:4])


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_an_engine_cannot_run_on_is_named_with_what_it_can(name, device, network, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match=rf"device is '{device}'.*: choose .*'cpu'"):
        made(name, network, device)


def test_openvino_is_not_asked_to_run_on_a_graphics_card(network, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(
        SettingError, match="device is 'cuda', and OpenVINO runs on the processor: choose 'cpu', or torch"
    ):
        made("openvino", network, "cuda")


def test_a_cache_that_cannot_be_written_ends_it_before_torch_computes_what_cannot_be_kept(
    samples, fresh_cache: Path
) -> None:
    fresh_cache.mkdir(parents=True, exist_ok=True)
    (fresh_cache / "graphs").write_text("a file where the folder should be")
    progress = Progress()
    with pytest.raises(CacheError, match="cannot be written"):
        choose_engine(Mean(), "no room", samples, "cpu", "float32", progress)
    assert progress.notes == []
