"""A network made fast to train against the same network as it was."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from headstart.networks.faster import restore, speed_up

PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(name: str) -> nn.Module:
    """A network in double precision whose normalisation does something."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return model.double()


def outputs_and_gradients(model: nn.Module, pictures: torch.Tensor = PICTURES) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model(pictures)
    logits.square().sum().backward()
    return {"logits": logits.detach(), **{n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    largest = max(tensor.norm() for tensor in theirs.values())
    for name, tensor in theirs.items():  # a gradient of nearly nothing is rounding alone
        assert (ours[name] - tensor).norm() <= tolerance * max(tensor.norm(), 1e-6 * largest), name


class Operations(TorchDispatchMode):
    """Writes down which BatchNorms run, and in which precision convolutions work, after autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = 0
        self.convolutions: set[tuple[str, torch.dtype]] = set()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.norms += "batch_norm" in str(function)
        if function is torch.ops.aten.convolution.default:
            depthwise = arguments[8] == arguments[0].shape[1] > 1
            self.convolutions.add(("depthwise" if depthwise else "full", arguments[0].dtype))
        return function(*arguments, **(named or {}))


def count_norms_that_run(model: nn.Module) -> int:
    with torch.no_grad(), Operations() as operations:
        model(PICTURES)
    return operations.norms


# The second number: BatchNorms that do not follow a convolution alone; in resnetv2 the output of a convolution is also
# what a later block adds to.
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("tf_efficientnet_lite0", 0),
        ("resnet18", 0),
        ("mobilenetv3_small_100", 0),
        ("resnetv2_18", 9),
        ("fasternet_t0", 0),
    ],
)
def test_a_fast_network_gives_the_same_outputs_and_gradients(name, left) -> None:
    model = network(name)
    before, state = outputs_and_gradients(model), copy.deepcopy(model.state_dict())
    norms = count_norms_that_run(model)
    speed_up(model, PICTURES[:1])
    assert count_norms_that_run(model) == left < norms
    assert_close(outputs_and_gradients(model), before, 1e-12)
    assert_close(outputs_and_gradients(copy.deepcopy(model)), before, 1e-12)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in state)


def test_a_copy_of_a_fast_network_has_weights_of_its_own() -> None:
    model = network("resnet18")
    speed_up(model, PICTURES[:1])
    before, other = outputs_and_gradients(model), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    assert_close(outputs_and_gradients(model), before, 0)


def test_restored_it_is_the_network_that_it_was() -> None:
    model = network("tf_efficientnet_lite0")
    before, in_place = outputs_and_gradients(model), [getattr(m, "inplace", None) for m in model.modules()]
    speed_up(model, PICTURES[:1])
    assert [getattr(m, "inplace", None) for m in model.modules()] != in_place
    restore(model)
    assert_close(outputs_and_gradients(model), before, 0)
    assert [getattr(m, "inplace", None) for m in model.modules()] == in_place
    assert not any("forward" in part.__dict__ for part in model.modules())


def test_a_network_that_keeps_tensors_of_its_last_evaluation_keeps_no_graph() -> None:
    model, pictures = network("levit_128s"), torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        before = model(pictures)
    speed_up(model, pictures)
    for fast in (copy.deepcopy(model).train(), model.train()):
        for _ in range(2):  # a graph that is kept cannot be gone through twice
            outputs_and_gradients(fast, pictures.expand(2, -1, -1, -1))
    model = network("levit_128s")
    speed_up(model, pictures)
    with torch.no_grad():
        torch.testing.assert_close(model(pictures), before)


def test_made_fast_twice_it_still_gives_the_same() -> None:
    model = network("ghostnet_050")
    before = outputs_and_gradients(model)
    speed_up(model, PICTURES[:1])
    speed_up(model, PICTURES[:1])
    assert_close(outputs_and_gradients(model), before, 1e-12)


def test_what_else_stands_in_the_place_of_a_forward_is_left_there() -> None:
    model = network("fasternet_t0")
    own = [name for name, part in model.named_modules() if "forward" in part.__dict__]
    assert own
    speed_up(model, PICTURES[:1])
    restore(model)
    assert [name for name, part in model.named_modules() if "forward" in part.__dict__] == own


def test_a_convolution_that_changes_its_weights_is_not_folded() -> None:
    model = nn.Sequential(StdConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)).double().eval()
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    before = outputs_and_gradients(model)
    speed_up(model, PICTURES[:1])
    assert count_norms_that_run(model) == 2  # that of its weights, and its BatchNorm
    assert_close(outputs_and_gradients(model), before, 1e-12)


def test_statistics_that_move_move_as_before() -> None:
    model = network("resnet18")
    speed_up(model, PICTURES[:1])
    plain = network("resnet18")
    assert_close(outputs_and_gradients(model.train()), outputs_and_gradients(plain.train()), 1e-12)
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(model.bn1.running_mean, network("resnet18").bn1.running_mean)


def test_which_parameters_learn_is_left_as_it_was() -> None:
    model = network("resnet18")
    model.requires_grad_(False).layer4.requires_grad_(True)
    before = outputs_and_gradients(model)
    speed_up(model, PICTURES[:1])
    assert_close(outputs_and_gradients(model), before, 1e-12)


def test_depthwise_convolutions_stay_in_float32_beside_bfloat16() -> None:
    model = network("tf_efficientnet_lite0").float()
    for depthwise in (torch.bfloat16, torch.float32):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), Operations() as operations:
            assert model(PICTURES.float()).dtype == torch.bfloat16
        assert operations.convolutions == {("depthwise", depthwise), ("full", torch.bfloat16)}
        speed_up(model, PICTURES[:1].float())
