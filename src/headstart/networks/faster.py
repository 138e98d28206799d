"""A network made faster to train, with the same outputs and the same gradients but for rounding.

- Frozen normalisation is folded into the convolution before it. With statistics that do not move, BatchNorm multiplies
  and shifts each channel by constants of the step; multiplying the convolution's weights instead gives the same
  gradients of weights, scales and shifts, by the chain rule, without two more passes over every map of activations.
- Depthwise convolutions stay in float32 when the rest is in bfloat16: oneDNN has no fast backward pass for most of
  them in bfloat16 (3 to 8 times slower than in float32), while that of all others is faster.
- Activations whose gradient needs their input do not work in place: torch would copy it first.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_NORM, _IN_PLACE = "_folded_norm", "_was_in_place"
_COPYING = (nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.SiLU)


def speed_up(network: nn.Module, inputs: torch.Tensor) -> None:
    """Make a network faster to train, in place.

    Names, parameters, buffers and `state_dict` stay as they are; copies are fast too; `restore` undoes it. A BatchNorm
    whose statistics move (in `train()`, not frozen) acts as before in every call in which they do.

    Args:
        network: Is set to `eval()`.
        inputs: What it takes; it is run once, to see what follows what.
    """
    norms = dict(_pairs(network.eval(), inputs))
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and (module in norms or _is_depthwise(module)):
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
        for part in (module, *module.__dict__.get(_NORM, ())):
            part.__dict__.pop("forward", None)
        module.__dict__.pop(_NORM, None)
        if module.__dict__.pop(_IN_PLACE, False):
            module.__dict__["inplace"] = True


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
    made: dict[Any, nn.Conv2d] = {}
    taken: dict[Any, nn.BatchNorm2d] = {}
    calls: Counter[nn.Module] = Counter()

    def made_by(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        calls[module] += 1
        if isinstance(module, nn.Conv2d):
            made[output.grad_fn] = module

    def taken_by(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if not isinstance(module, nn.BatchNorm2d) or type(module) not in (nn.BatchNorm2d, BatchNormAct2d):
            return  # a kind of its own may do more than normalise
        if module.running_mean is not None:
            taken[given[0].grad_fn] = module

    with _all_learn(network), torch.enable_grad(), _hooks(network, made_by, taken_by):
        output = network(inputs)
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


@contextmanager
def _hooks(network: nn.Module, after: Any, before: Any) -> Iterator[None]:
    parts = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    handles = [h for m in parts for h in (m.register_forward_hook(after), m.register_forward_pre_hook(before))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _all_learn(network: nn.Module) -> Iterator[None]:
    """Let every parameter take gradients for a while: without them torch keeps no graph."""
    parameters = [p for p in network.parameters() if p.is_floating_point()]
    before = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, learns in zip(parameters, before, strict=True):
            parameter.requires_grad_(learns)
