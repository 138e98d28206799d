"""The estimate of fine-tuning's time: what it counts, and what it may cost itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tiny_backbones import tiny_backbone
from torch import nn

from headstart.learn.features.extract import FeatureSettings
from headstart.learn.features.pictures import Pictures
from headstart.learn.finetune import estimate, precision
from headstart.learn.finetune.estimate import FEW, PICTURES, REPEATS, seconds_needed
from headstart.learn.finetune.precision import TRIAL_STEPS
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.source import LiveSource
from headstart.learn.finetune.task import Course, make_course
from headstart.networks import Backbone, tensor_hash

seen: list[tuple[int, bool]] = []


class Counting(nn.Linear):
    """A head that notes how many pictures it is shown, and whether to learn from them."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        seen.append((len(features), torch.is_grad_enabled()))
        return super().forward(features)


@pytest.fixture
def pictures(class_folders) -> Pictures:
    paths = tuple(str(path) for path in sorted(class_folders(per_class=12).rglob("*.jpg")))
    return Pictures.of(paths)


@pytest.fixture
def backbone(tmp_path, fresh_cache) -> Backbone:
    return tiny_backbone("test_resnet", tmp_path)


def course(backbone: Backbone, unfreeze: str, views: int = 1) -> Course:
    training = TrainingSettings(unfreeze=unfreeze, epochs=5, precision="float32")
    return make_course(backbone, training, FeatureSettings(views=views, device="cpu", precision="float32"), 24)


def head(backbone: Backbone) -> nn.Module:
    return Counting(backbone.num_features, 2)


@pytest.mark.parametrize(
    ("unfreeze", "below"), [("all", 5 * 24 + 6 * 10), ("layer4", 3 * 24 + 10)], ids=["pixels", "above a cut"]
)
def test_it_counts_every_view_every_epoch_and_every_validation(
    unfreeze: str, below: int, backbone, pictures, monkeypatch
) -> None:
    """Of 24 pictures in five epochs, and ten that are validated on after each and once more by the best."""
    monkeypatch.setattr(estimate, "_measure_below", lambda *arguments: (np.zeros(0), 1.0))
    monkeypatch.setattr(estimate, "_measure_above", lambda *arguments: (1000.0, 1e6))
    needed = seconds_needed(backbone, head(backbone), course(backbone, unfreeze, views=3), pictures, 10)
    assert needed == below + 1000 * 5 * 24 + 1e6 * 6 * 10


@pytest.mark.parametrize("unfreeze", ["all", "layer4"])
def test_the_pictures_that_are_validated_on_take_time(unfreeze: str, backbone, pictures) -> None:
    few, many = (
        seconds_needed(backbone, head(backbone), course(backbone, unfreeze), pictures, count)
        for count in (0, 10_000_000)
    )
    assert many > 10 * few > 0


@pytest.mark.parametrize("unfreeze", ["all", "layer4"])
def test_it_takes_a_small_part_of_the_budget_or_what_is_least(unfreeze: str, backbone, pictures, monkeypatch) -> None:
    made, batches = [], LiveSource.batches

    def counted(self, rows, view):
        made.append(sum(map(len, rows)))
        return batches(self, rows, view)

    monkeypatch.setattr(LiveSource, "batches", counted)
    told = {}
    for budget in (0.0, math.inf):
        seen.clear()
        made.clear()
        seconds_needed(backbone, head(backbone), course(backbone, unfreeze), pictures, 10, budget)
        learned = [count for count, learning in seen[1:] if learning]  # the first is that of `faster.speed_up`
        judged = [count for count, learning in seen if not learning]
        told[budget] = (list(made), learned, judged)
    assert told[0.0] == ([PICTURES], [FEW], [FEW] * REPEATS)
    everything = [FEW] * TRIAL_STEPS + [PICTURES] * TRIAL_STEPS
    assert told[math.inf] == ([PICTURES] * REPEATS, everything, [PICTURES] * REPEATS)


@pytest.mark.parametrize(("allowed", "steps"), [(0.0, 1), (1.0, 1), (2.9, 2), (3.0, 3), (math.inf, TRIAL_STEPS)])
def test_no_step_is_begun_that_would_not_fit(allowed: float, steps: int, monkeypatch) -> None:
    """By a clock that goes on by a second whenever it is asked, so that each step takes one."""
    clock = itertools.count()
    monkeypatch.setattr(precision.time, "perf_counter", lambda: float(next(clock)))
    seen.clear()
    inputs = np.zeros((4, 8), np.float32)
    assert precision.seconds_of_step(Counting(8, 2), inputs, torch.device("cpu"), "float32", allowed) == 1.0
    assert seen == [(4, True)] * steps


def test_nothing_is_changed(backbone, pictures) -> None:
    whole = nn.Sequential(backbone.network, head(backbone))
    hashed, learning = tensor_hash(whole), [parameter.requires_grad for parameter in whole.parameters()]
    training, state = [part.training for part in whole.modules()], torch.get_rng_state()
    seconds_needed(backbone, whole[1], course(backbone, "layer4"), pictures, 10)
    assert tensor_hash(whole) == hashed
    assert [parameter.requires_grad for parameter in whole.parameters()] == learning
    assert [part.training for part in whole.modules()] == training
    assert torch.equal(torch.get_rng_state(), state)
