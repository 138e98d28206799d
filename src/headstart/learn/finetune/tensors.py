"""A network's tensors by name: copied, and averaged over the steps."""

from __future__ import annotations

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]


def copy_tensors(network: nn.Module) -> Tensors:
    """Return copies of all parameters and buffers that a checkpoint has."""
    return clone(network.state_dict())


def clone(tensors: Tensors) -> Tensors:
    """Return copies of tensors."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def update_average(average: Tensors, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's (Polyak and Juditsky 1992); whole numbers are copied."""
    if average:
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                average[name].lerp_(tensor, 1 - decay)
            else:
                average[name].copy_(tensor)
