"""Mixup and CutMix on a batch of inputs, which may be pixels or activations."""

from __future__ import annotations

import torch

from headstart.learn.finetune.settings import TrainingSettings


def mix(inputs: torch.Tensor, targets: torch.Tensor, settings: TrainingSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the batch mixed with a shuffled copy of itself; which of the two is drawn, when both are on.

    Draws from torch's global generator on the processor, which the loop seeds for every step.

    Args:
        inputs: uint8 pixels `(n, h, w, 3)`, float maps `(n, c, h, w)`, or other float activations `(n, …)` such as
            tokens, which have no rectangles to exchange: CutMix leaves them to mixup.
        targets: float `(n, c)`, rows summing to 1 (or any values, for several labels).
        settings: `mixup` and `cutmix` are the alphas.

    Returns:
        Inputs of the same shape, float where anything was mixed, and the targets in the same shares.
    """
    cutmix = settings.cutmix > 0 and has_rectangles(inputs.ndim)
    if cutmix and settings.mixup > 0:
        cutmix = bool(torch.rand(()) < 0.5)
    alpha = settings.cutmix if cutmix else settings.mixup
    if alpha == 0:
        return inputs, targets
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(inputs)).to(inputs.device)
    pixels = inputs.dtype == torch.uint8
    maps = inputs.permute(0, 3, 1, 2).float() if pixels else inputs
    if cutmix:
        mixed, share = _exchange_rectangle(maps, other, share)
    else:
        mixed = share * maps + (1 - share) * maps[other]
    return mixed.permute(0, 2, 3, 1) if pixels else mixed, share * targets + (1 - share) * targets[other]


def has_rectangles(dimensions: int) -> bool:
    """Whether a batch of so many dimensions has rows and columns: pixels and maps do, tokens and features do not."""
    return dimensions == 4


def _exchange_rectangle(maps: torch.Tensor, other: torch.Tensor, share: float) -> tuple[torch.Tensor, float]:
    """Return maps `(n, c, h, w)` with a rectangle of about `1 - share` of the area from others; and the share kept."""
    height, width = maps.shape[-2:]
    down, across = round(height * (1 - share) ** 0.5), round(width * (1 - share) ** 0.5)
    top = int(torch.randint(height - down + 1, ()))
    left = int(torch.randint(width - across + 1, ()))
    mixed = maps.clone()
    mixed[..., top : top + down, left : left + across] = maps[other][..., top : top + down, left : left + across]
    return mixed, 1 - down * across / (height * width)
