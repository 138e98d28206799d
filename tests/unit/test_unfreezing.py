"""What `unfreeze` means, and that frozen is frozen: below the cut, above it, and in normalisation statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_backbones import tiny_backbone
from torch import nn

from headstart.core.errors import SettingError
from headstart.learn.finetune.optimizer import parameter_groups
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.unfreezing import Phase, apply_phase, frozen_tensors, module_name, plan
from headstart.networks import Backbone, load_backbone

TINY = ("test_efficientnet", "test_resnet", "test_vit", "test_convnext")
# A stage in the middle, by the names people know.
STAGES = {
    "test_efficientnet": "blocks.1",
    "test_resnet": "layer3",
    "test_vit": "blocks.3",
    "test_convnext": "stages.1",
    "vgg16": "block5",
    "mobilenetv3_large_100": "conv_head",
    "resnet18": "layer4",
    "efficientnet_lite0": "blocks.6",
}


@pytest.fixture(scope="module", params=STAGES)
def backbone(request, tmp_path_factory) -> Backbone:
    if request.param in TINY:
        return tiny_backbone(request.param, tmp_path_factory.mktemp("weights"))
    return load_backbone(request.param, image_size=64, blank=True)


@pytest.fixture
def efficientnet(tmp_path) -> Backbone:
    return tiny_backbone("test_efficientnet", tmp_path)


def learning(backbone: Backbone) -> set[str]:
    return {name for name, parameter in backbone.network.named_parameters() if parameter.requires_grad}


def step(backbone: Backbone) -> None:
    """Two steps of training with everything that could move what it should not: weight decay and large rates."""
    network = backbone.network.train()
    images = torch.randint(0, 256, (4, *backbone.preprocessing.image_size, 3), dtype=torch.uint8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        network(images).square().mean().backward()
        optimizer.step()


# What unfreeze means


def test_a_stage_means_that_stage_and_all_above(backbone: Backbone) -> None:
    stage = STAGES[backbone.name]
    layers = plan(backbone, stage)
    apply_phase(backbone, layers.phases[0], batch_norm="frozen")
    upper = {module_name(name) for name in backbone.stages[backbone.stages.index(stage) :]} | {"pool"}
    assert layers.cut == stage
    assert learning(backbone) == {
        name for name, _ in backbone.network.named_parameters() if name.split(".")[0] in upper
    }


def test_all_means_every_parameter_and_head_means_none(backbone: Backbone) -> None:
    everything = {name for name, _ in backbone.network.named_parameters()}
    for wanted, expected, cut in (("all", everything, 0), ("head", set(), -1)):
        layers = plan(backbone, wanted)
        apply_phase(backbone, layers.phases[0], batch_norm="frozen")
        assert learning(backbone) == expected
        assert layers.cut == backbone.stages[cut]


def test_a_number_counts_layers_with_parameters_from_the_end(backbone: Backbone) -> None:
    network = backbone.network
    own = [name for name, module in network.named_modules() if module._parameters]
    for number in (1, 4, len(own)):
        layers = plan(backbone, number)
        assert plan(backbone, str(number)) == plan(backbone, np.int64(number)) == layers
        apply_phase(backbone, layers.phases[0], batch_norm="frozen")
        expected = {f"{name}.{p}" for name in own[-number:] for p in network.get_submodule(name)._parameters}
        assert learning(backbone) == {name for name in expected if name in dict(network.named_parameters())}
        below = network[: 1 + backbone.stages.index(layers.cut)]
        assert not any(parameter.requires_grad for parameter in below.parameters())


def test_the_last_four_layers_of_vgg16_reach_into_its_fourth_block() -> None:
    # Keras counts the pooling as a layer, so its layers[-4:] are the three convolutions of block5.
    backbone = load_backbone("vgg16", image_size=64, blank=True)
    assert plan(backbone, 3).cut == "block5"
    assert plan(backbone, 4).cut == "block4"


def test_a_gradual_schedule_unfreezes_stage_by_stage(efficientnet: Backbone) -> None:
    layers = plan(efficientnet, [("head", 1), (1, 2), ["conv_head", 2], ("blocks.4", 3)])
    assert layers.epochs == 8
    assert layers.cut == "blocks.4"
    assert [phase.epoch for phase in layers.phases] == [0, 1, 3, 5]
    counts = []
    for epoch in range(8):
        apply_phase(efficientnet, layers.phase(epoch), batch_norm="frozen")
        counts.append(len(learning(efficientnet)))
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert len(set(counts)) == 4
    assert all(not name.startswith("blocks_3") for name in learning(efficientnet))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("blocks.44", "unknown stage of test_efficientnet 'blocks.44': did you mean 'blocks.4'"),
        (0, "unfreeze is 0, but test_efficientnet has [0-9]+ layers with parameters: give 1 to"),
        (10_000, "unfreeze is 10000"),
        (True, "unfreeze is True: give a number of layers"),
        (1.5, "unfreeze is 1.5"),
        ([], "unfreeze is empty"),
        ([("blocks.4", 0)], "unfreeze has .'blocks.4', 0.: give pairs of a stage and a number of epochs"),
        (["blocks.4"], "unfreeze has 'blocks.4'"),
        ([("blocks.4", True)], "unfreeze has"),
        ([("blocks.44", 2)], "did you mean 'blocks.4'"),
    ],
)
def test_what_cannot_be_unfrozen_is_explained(efficientnet: Backbone, wanted, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        plan(efficientnet, wanted)


# Frozen is frozen


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("wanted", ["middle", "all", 3, "head", [("head", 1), (2, 1)]])
@pytest.mark.parametrize("name", TINY)
def test_what_is_frozen_keeps_every_bit_and_all_else_moves(name: str, wanted, batch_norm: str, tmp_path) -> None:
    backbone = tiny_backbone(name, tmp_path)
    layers = plan(backbone, STAGES[name] if wanted == "middle" else wanted)
    frozen = {key: t.clone() for key, t in frozen_tensors(backbone, layers, batch_norm=batch_norm).items()}
    before = {key: t.clone() for key, t in backbone.network.state_dict().items()}
    for phase in layers.phases:
        apply_phase(backbone, phase, batch_norm=batch_norm)
        if learning(backbone):
            step(backbone)
    after = backbone.network.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == set(before) - set(frozen)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_frozen_statistics_stay_while_scale_and_shift_learn(name: str, tmp_path) -> None:
    for batch_norm, statistics_move in (("frozen", False), ("train", True)):
        backbone = tiny_backbone(name, tmp_path)
        apply_phase(backbone, plan(backbone, "all").phases[0], batch_norm=batch_norm)
        norms = [part for part in backbone.network.modules() if isinstance(part, nn.BatchNorm2d)]
        before = [(part.weight.clone(), part.running_mean.clone(), part.running_var.clone()) for part in norms]
        step(backbone)
        for part, (weight, mean, variance) in zip(norms, before, strict=True):
            assert not torch.equal(part.weight, weight)
            assert torch.equal(part.running_mean, mean) != statistics_move
            assert torch.equal(part.running_var, variance) != statistics_move


def test_a_later_phase_may_freeze_again(efficientnet: Backbone) -> None:
    for wanted, expected in (("all", True), ("head", False), ("all", True)):
        apply_phase(efficientnet, Phase(0, plan(efficientnet, wanted).phases[0].modules), batch_norm="train")
        efficientnet.network.train()
        stem = efficientnet.network.get_submodule("stem")
        assert stem.training is expected
        assert bool(learning(efficientnet)) is expected


# Parameter groups


def test_everything_of_a_schedule_that_freezes_again_is_all_that_learns_in_some_phase(efficientnet: Backbone) -> None:
    layers = plan(efficientnet, [("all", 2), ("head", 3)])
    apply_phase(efficientnet, layers.everything(), batch_norm="frozen")
    assert learning(efficientnet) == {name for name, _ in efficientnet.network.named_parameters()}


def test_each_learning_parameter_is_in_one_group_and_no_frozen_one(backbone: Backbone) -> None:
    head = nn.Linear(backbone.num_features, 2)
    wanted = [("head", 1), (1, 1), (STAGES[backbone.name], 1)]
    layers = plan(backbone, wanted)
    groups = parameter_groups(backbone, layers, head, TrainingSettings(learning_rate=1.0, backbone_learning_rate=0.1))
    listed = [id(p) for group in groups for p in group["params"]]
    apply_phase(backbone, layers.phases[-1], batch_norm="frozen")
    expected = [id(p) for p in (*head.parameters(), *backbone.network.parameters()) if p.requires_grad]
    assert sorted(listed) == sorted(expected)
    torch.optim.AdamW(groups)  # torch refuses a parameter that is there twice


def test_rates_fall_from_the_head_downwards_by_the_decay(tmp_path) -> None:
    backbone = tiny_backbone("test_convnext", tmp_path)
    settings = TrainingSettings(learning_rate=1.0, backbone_learning_rate=0.1, layer_decay=0.5)
    groups = parameter_groups(backbone, plan(backbone, "stages.1"), nn.Linear(backbone.num_features, 2), settings)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    found = [
        {rates[id(p)] for p in backbone.network.get_submodule(name).parameters()}
        for name in ("pool", "stages_3", "stages_2", "stages_1")
    ]
    # The norm after pooling belongs to the topmost stage.
    assert found == [{0.1}, {0.1}, {0.05}, {0.025}]
    assert groups[0]["lr"] == 1.0
