"""Frozen means frozen: no gradients, and no statistics that move, whatever `train()` is called on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MethodType
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def freeze(module: ModuleT) -> ModuleT:
    """Freeze a module and everything in it, in place.

    Its parameters take no gradients, and it stays in evaluation mode even when `train()` is called on it, on a
    part of it or on a module around it: running statistics of normalisation do not move, dropout does not act.
    Copies stay frozen. `unfreeze` undoes it for the whole or for any part.

    Returns:
        The same module.
    """
    module.requires_grad_(False)
    for part in module.modules():
        part.training = False
        part.__dict__["train"] = MethodType(_stay_in_evaluation, part)
    return module


def unfreeze(module: ModuleT) -> ModuleT:
    """Undo `freeze` for a module and everything in it, in place; it stays in evaluation mode until `train()`.

    Returns:
        The same module.
    """
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    for part in module.modules():
        part.__dict__.pop("train", None)
    return module


def tensor_hash(module: nn.Module) -> str:
    """Return the sha256 of all parameters and buffers of a module: equal when not one bit differs."""
    return hash_tensors(module.state_dict())


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes; the order of the mapping does not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Seen as bytes, because numpy has no bfloat16; `reshape` because a scalar cannot be seen as another dtype.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _stay_in_evaluation(self: nn.Module, mode: bool = True) -> nn.Module:
    # Takes the place of `nn.Module.train`. It goes on to the parts, because one of them may have been unfrozen.
    self.training = False
    for part in self.children():
        part.train(mode)
    return self
