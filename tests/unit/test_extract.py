"""Extraction when the engine of the wanted precision is refused: what the other one has computed is taken as it is."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_backbones import tiny_backbone

from headstart.learn.features import extract as extraction
from headstart.learn.features.engines import TorchEngine


def test_a_precision_that_is_refused_again_finds_the_features_of_the_other(tmp_path, fresh_cache, monkeypatch) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8))
    monkeypatch.setattr(extraction, "choose_precision", lambda wanted, device: "bfloat16")
    monkeypatch.setattr(extraction, "open_engine", lambda *arguments: TorchEngine(backbone.network, "cpu"))
    first, second = (extraction.extract(pictures, backbone) for _ in range(2))
    assert [first.precision, second.precision] == ["float32", "float32"]
    assert [first.computed, second.computed] == [5, 0]
    assert np.array_equal(first.read(), second.read())


@pytest.mark.parametrize("copies", [1, 2])
def test_features_that_are_all_cached_need_no_engine(tmp_path, fresh_cache, monkeypatch, copies) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)) * copies
    how = extraction.FeatureSettings(precision="float32", device="cpu")
    assert extraction.extract(pictures, backbone, how).computed == 3
    monkeypatch.setattr(extraction, "open_engine", lambda *arguments: pytest.fail("an engine was opened"))
    assert extraction.extract(pictures, backbone, how).computed == 0
