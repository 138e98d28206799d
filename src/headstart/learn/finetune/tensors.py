"""Inputs as tensors, a network's tensors by name (copied, averaged over the steps), and torch's random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
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


def as_inputs(inputs: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return inputs as a tensor; maps of activations in the memory order in which convolutions are fastest.

    It is a copy, in memory aligned as torch does it: matrix products may differ in their last digits with alignment,
    and a resumed run must not.
    """
    tensor = torch.from_numpy(inputs)
    maps = inputs.ndim == 4 and inputs.dtype != np.uint8
    return tensor.clone(memory_format=torch.channels_last if maps else torch.contiguous_format).to(device)


def seed_step(seed: int, step: int) -> None:
    """Seed torch's global generators, which dropout and mixing draw from, for one step."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]) >> 1)


@contextmanager
def own_random_state() -> Iterator[None]:
    """Leave torch's global generator as it was found."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
