"""Mixup and CutMix: what goes in comes out in the shares that the targets say."""

from __future__ import annotations

import pytest
import torch

from headstart.learn.finetune.mixing import mix
from headstart.learn.finetune.settings import TrainingSettings

N = 6
TARGETS = torch.eye(N)
SHAPES = {"pixels": (N, 8, 10, 3), "maps": (N, 3, 8, 10), "tokens": (N, 5, 7), "features": (N, 9)}


def constant(kind: str) -> torch.Tensor:
    """Picture i is i + 1 everywhere, so that a mixture shows what it is made of."""
    values = torch.arange(1, N + 1).view(N, *[1] * (len(SHAPES[kind]) - 1)).expand(SHAPES[kind]).clone()
    return values.to(torch.uint8 if kind == "pixels" else torch.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", SHAPES)
def test_mixup_mixes_all_values_as_it_mixes_the_targets(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    mixed, targets = mix(constant(kind), TARGETS, TrainingSettings(mixup=1.0))
    assert mixed.shape == SHAPES[kind]
    assert mixed.is_floating_point()
    assert torch.allclose(targets.sum(1), torch.ones(N))
    expected = targets @ torch.arange(1.0, N + 1)
    assert torch.allclose(mixed.reshape(N, -1), expected[:, None].expand(N, mixed[0].numel()), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["pixels", "maps"])
def test_cutmix_exchanges_one_rectangle_and_the_targets_are_its_area(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    mixed, targets = mix(constant(kind), TARGETS, TrainingSettings(cutmix=1.0))
    assert mixed.shape == SHAPES[kind]
    plane = mixed[..., 0] if kind == "pixels" else mixed[:, 0]
    for picture in range(N):
        own = plane[picture] == picture + 1
        others = plane[picture][~own]
        assert others.unique().numel() <= 1
        if len(others):
            assert float(targets[picture, picture]) == pytest.approx(float(own.float().mean()), abs=1e-6)
            assert float(targets[picture, int(others[0]) - 1]) == pytest.approx(float((~own).float().mean()), abs=1e-6)
            rows, columns = (~own).any(1).nonzero(), (~own).any(0).nonzero()
            rectangle = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert int(rectangle) == len(others)
    # every channel has the same rectangle
    channels = mixed if kind == "pixels" else mixed.permute(0, 2, 3, 1)
    assert torch.equal(channels, plane[..., None].expand_as(channels))


@pytest.mark.parametrize("kind", ["tokens", "features"])
def test_tokens_have_no_rectangles_so_cutmix_leaves_them_to_mixup(kind: str) -> None:
    inputs = constant(kind)
    mixed, targets = mix(inputs, TARGETS, TrainingSettings(cutmix=1.0))
    assert torch.equal(mixed, inputs)
    assert torch.equal(targets, TARGETS)
    torch.manual_seed(1)
    mixed, _ = mix(inputs, TARGETS, TrainingSettings(cutmix=1.0, mixup=1.0))
    assert not torch.equal(mixed, inputs)


def test_nothing_happens_when_both_are_off() -> None:
    inputs = constant("pixels")
    mixed, targets = mix(inputs, TARGETS, TrainingSettings())
    assert mixed is inputs
    assert targets is TARGETS


def test_with_both_on_each_has_about_half_of_the_steps() -> None:
    kinds = []
    for seed in range(200):
        torch.manual_seed(seed)
        mixed, _ = mix(constant("maps"), TARGETS, TrainingSettings(mixup=1.0, cutmix=1.0))
        kinds.append(torch.equal(mixed, mixed.round()))  # CutMix keeps whole numbers
    assert 60 < sum(kinds) < 140


def test_the_same_seed_mixes_the_same_way_and_the_inputs_stay_as_they_were() -> None:
    inputs, settings = constant("maps"), TrainingSettings(mixup=0.4, cutmix=1.0)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(mix(inputs, TARGETS, settings)[0])
    assert torch.equal(*results)
    assert torch.equal(inputs, constant("maps"))
