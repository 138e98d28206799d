"""A network made faster to train, with the same outputs and the same gradients but for rounding.

- Frozen normalisation is folded into the convolution before it. With statistics that do not move, BatchNorm multiplies
  and shifts each channel by constants of the step; multiplying the convolution's weights instead gives the same
  gradients of weights, scales and shifts, by the chain rule, without two more passes over every map of activations.
- Depthwise convolutions stay in float32 when the rest is in bfloat16: oneDNN has no fast backward pass for most of
  them in bfloat16 (3 to 8 times slower than in float32), while that of all others is faster.
- Activations whose gradient needs their input do not work in place: torch would copy it first.
"""

from __future__ import annotations

import copy
from collections import Counter
from types import MethodType
from typing import Any, TypeGuard

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

VERSION = 1  # raised when what is done here changes: which precision is faster is found anew then
_NORM, _IN_PLACE = "_folded_norm", "_was_in_place"
_COPYING = (nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.SiLU)


def speed_up(network: nn.Module, inputs: torch.Tensor) -> None:
    """Make a network faster to train, in place.

    Names, parameters, buffers and `state_dict` stay as they are; copies are fast too; `restore` undoes it. A BatchNorm
    whose statistics move (in `train()`, not frozen) acts as before in every call in which they do.

    Args:
        network: Is changed in place; one that is fast already is made fast anew.
        inputs: What it takes; a copy of the network is run on it once, to see what follows what.
    """
    restore(network)
    norms = dict(_pairs(network, inputs))
    for module in network.modules():
        if _is_plain(module) and (module in norms or _is_depthwise(module)):
            # In a tuple, because a module would become a part of the convolution, with names in its state_dict.
            module.__dict__[_NORM] = (norms[module],) if module in norms else ()
            module.__dict__["forward"] = MethodType(_convolve, module)
        elif isinstance(module, _COPYING) and module.inplace:
            module.__dict__[_IN_PLACE] = True
            module.__dict__["inplace"] = False
    for norm in norms.values():
        norm.__dict__["forward"] = MethodType(_activate, norm)


def restore(network: nn.Module) -> None:
    """Undo `speed_up` for a network and everything in it, in place."""
    for module in network.modules():
        # Some of timm's modules have a `forward` of their own: only ours go.
        if getattr(module.__dict__.get("forward"), "__func__", None) in (_convolve, _activate):
            del module.__dict__["forward"]
        module.__dict__.pop(_NORM, None)
        if module.__dict__.pop(_IN_PLACE, False):
            module.__dict__["inplace"] = True


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution that uses its weights as they are, with nothing in the place of its `forward`."""
    return type(module) in (nn.Conv2d, Conv2dSame) and "forward" not in module.__dict__


def _only_normalizes(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a BatchNorm with statistics, perhaps with timm's activation, with nothing for its `forward`."""
    plain = type(module) in (nn.BatchNorm2d, BatchNormAct2d) and "forward" not in module.__dict__
    return plain and module.running_mean is not None


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    return convolution.groups == convolution.in_channels > 1


def _convolve(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Take the place of a convolution's `forward`."""
    folded = {}
    for norm in self.__dict__[_NORM]:
        if not norm.training:
            folded = _fold(self, norm)
    self.__dict__.update(folded)  # what is in a module's __dict__ is found before its parameters
    try:
        if not (_is_depthwise(self) and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return type(self).forward(self, x)
        with torch.autocast("cpu", enabled=False):
            return type(self).forward(self, x.float()).to(torch.get_autocast_dtype("cpu"))
    finally:
        for name in folded:
            del self.__dict__[name]


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> dict[str, torch.Tensor]:
    """Return weight and bias of a convolution that does what the two do."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None  # `_pairs` chose those with statistics
    assert variance is not None
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = -mean * scale if convolution.bias is None else (convolution.bias - mean) * scale
    if norm.bias is not None:
        bias = bias + norm.bias
    return {"weight": convolution.weight * scale[:, None, None, None], "bias": bias}


def _activate(self: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Take the place of a BatchNorm's `forward`: what is left to do is the activation that timm puts into it."""
    if self.training:
        return type(self).forward(self, x)
    return self.act(self.drop(x)) if isinstance(self, BatchNormAct2d) else x


def _pairs(network: nn.Module, inputs: torch.Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each convolution whose output goes to one BatchNorm and nowhere else, and that BatchNorm.

    What goes where is read from the graph that torch keeps for the gradients.
    """
    # A copy: some networks keep tensors of their last evaluation, and these would hold the graph.
    trial = copy.deepcopy(network).eval()
    originals = dict(zip(trial.modules(), network.modules(), strict=True))
    made: dict[Any, nn.Conv2d] = {}
    taken: dict[Any, nn.BatchNorm2d] = {}
    calls: Counter[nn.Module] = Counter()

    def made_by(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        calls[originals[module]] += 1
        if _is_plain(original := originals[module]):
            made[output.grad_fn] = original

    def taken_by(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if _only_normalizes(original := originals[module]):
            taken[given[0].grad_fn] = original

    for module in trial.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.register_forward_hook(made_by)
            module.register_forward_pre_hook(taken_by)
    for parameter in trial.parameters():  # without gradients torch keeps no graph
        parameter.requires_grad_(parameter.is_floating_point())
    with torch.enable_grad():
        output = trial(inputs)
    uses = _uses(output.grad_fn)
    return [
        (made[node], norm)
        for node, norm in taken.items()
        if node in made and uses[node] == 1 and calls[made[node]] == 1 and calls[norm] == 1
    ]


def _uses(last: Any) -> Counter[Any]:
    """Return how often the output of each step of the graph below `last` is used."""
    uses: Counter[Any] = Counter()
    waiting, seen = [last], {last}
    while waiting:
        for node, _ in waiting.pop().next_functions:
            uses[node] += 1
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return uses
