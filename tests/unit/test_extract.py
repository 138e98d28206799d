"""Extraction when the engine of the wanted precision is refused: what the other one has computed is taken as it is."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny_backbones import tiny_backbone

from headstart.core.errors import SettingError
from headstart.core.progress import Progress
from headstart.learn.features import engines, memory
from headstart.learn.features import extract as extraction
from headstart.learn.features.engines import TorchEngine
from headstart.learn.features.transformer import extract_features


def test_a_precision_that_is_refused_again_finds_the_features_of_the_other(tmp_path, fresh_cache, monkeypatch) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8))
    monkeypatch.setattr(extraction, "choose_precision", lambda wanted, device: "bfloat16")
    monkeypatch.setattr(extraction, "open_engine", lambda *arguments: (TorchEngine(backbone.network, "cpu"), True))
    first, second = (extraction.extract(pictures, backbone) for _ in range(2))
    assert [first.precision, second.precision] == ["float32", "float32"]
    assert [first.computed, second.computed] == [5, 0]
    assert np.array_equal(first.read(), second.read())


def test_what_another_run_left_in_the_cache_does_not_change_the_precision(tmp_path, fresh_cache, monkeypatch) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8))
    monkeypatch.setattr(engines, "has_bfloat16", lambda: True)

    def open_engine(pictures, backbone, how, *arguments) -> tuple[TorchEngine, bool]:
        return TorchEngine(backbone.network, "cpu", engines.choose_precision(how.precision, "cpu")), False

    monkeypatch.setattr(extraction, "open_engine", open_engine)
    exact = extraction.extract(pictures, backbone, extraction.FeatureSettings(device="cpu", precision="float32"))
    first, second = (extraction.extract(pictures, backbone, extraction.FeatureSettings(device="cpu")) for _ in range(2))
    assert [exact.precision, first.precision, second.precision] == ["float32", "bfloat16", "bfloat16"]
    assert [exact.computed, first.computed, second.computed] == [5, 5, 0]


def test_a_precision_that_was_refused_is_not_tried_again_for_further_pictures(
    tmp_path, fresh_cache, monkeypatch
) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8))
    monkeypatch.setattr(extraction, "choose_precision", lambda wanted, device: "bfloat16")
    tried = []

    def open_engine(pictures, backbone, how, *arguments) -> tuple[TorchEngine, bool]:
        tried.append(how.precision)
        return TorchEngine(backbone.network, "cpu"), how.precision == "bfloat16"

    monkeypatch.setattr(extraction, "open_engine", open_engine)
    progress = Progress()
    found = [extraction.extract(some, backbone, progress=progress) for some in (pictures[:3], pictures, pictures)]
    assert tried == ["bfloat16", "float32"]
    assert [one.precision for one in found] == ["float32", "float32", "float32"]
    assert [one.computed for one in found] == [3, 2, 0]
    assert ["An earlier run found bfloat16 too inaccurate" in note for note in progress.notes] == [True]


def test_an_engine_is_checked_on_the_same_pictures_whatever_the_cache_holds(tmp_path, fresh_cache, monkeypatch) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (20, 40, 50, 3), np.uint8))
    how = extraction.FeatureSettings(device="cpu", precision="float32")
    checked = []

    def choose_engine(network, identity, samples, *arguments) -> tuple[TorchEngine, bool]:
        checked.append(samples)
        return TorchEngine(backbone.network, "cpu"), False

    monkeypatch.setattr(extraction, "choose_engine", choose_engine)
    extraction.extract(pictures, backbone, how)
    for space in (fresh_cache / "features").iterdir():
        shutil.rmtree(space)
    extraction.extract(pictures[:7], backbone, how)
    assert extraction.extract(pictures, backbone, how).computed == 13
    empty, _, half = checked
    assert np.array_equal(half, empty)


def test_an_engine_that_fails_once_is_tried_again_by_the_next_run(tmp_path, fresh_cache, monkeypatch) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8))
    monkeypatch.setattr(extraction, "choose_precision", lambda wanted, device: "bfloat16")

    class Full:
        def __init__(self, graph: object, precision: str) -> None:
            raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engines, "OpenVINOEngine", Full)
        failed = extraction.extract(pictures, backbone, extraction.FeatureSettings(device="cpu"))
    monkeypatch.setattr(
        engines, "OpenVINOEngine", lambda graph, precision: TorchEngine(backbone.network, "cpu", precision)
    )
    monkeypatch.setattr(engines, "MIN_COSINE", 0.9)
    after = extraction.extract(pictures, backbone, extraction.FeatureSettings(device="cpu"))
    assert [failed.precision, failed.engine] == ["float32", "torch"]
    assert [after.precision, after.computed] == ["bfloat16", 5]


@pytest.mark.parametrize("copies", [1, 2])
def test_features_that_are_all_cached_need_no_engine(tmp_path, fresh_cache, monkeypatch, copies) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)) * copies
    how = extraction.FeatureSettings(precision="float32", device="cpu")
    assert extraction.extract(pictures, backbone, how).computed == 3
    monkeypatch.setattr(extraction, "open_engine", lambda *arguments: pytest.fail("an engine was opened"))
    assert extraction.extract(pictures, backbone, how).computed == 0


def test_features_that_memory_cannot_hold_are_refused_before_any_work(tmp_path, fresh_cache, monkeypatch) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path, pooling="flatten")
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8))
    needed = memory.COPIES * 4 * 3 * backbone.num_features
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "open_engine", lambda *arguments: pytest.fail("an engine was opened"))
        with pytest.raises(SettingError, match=r"3 pictures x 1 view x .* GB are free: choose pooling avg"):
            extract_features(pictures, backbone)
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    assert extract_features(pictures, backbone, device="cpu", precision="float32").shape == (3, backbone.num_features)
    with pytest.raises(SettingError, match=r"3 pictures x 2 views x "):
        memory.check_memory(3, 2, backbone.num_features)


def test_features_of_several_backbones_are_held_together_and_one_at_a_time_is_scaled(monkeypatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * 1000 * (100 + 300 + 200 + 2 * 300))
    memory.check_memory(1000, 1, 100, 300, 200)
    with pytest.raises(SettingError, match="1,000 pictures x 1 view x 602 features"):
        memory.check_memory(1000, 1, 100, 301, 201)
