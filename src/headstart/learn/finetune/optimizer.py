"""The optimizer of fine-tuning: which parameters learn, at which rate, and what decays."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.unfreezing import POOL, Plan, module_name
from headstart.networks import Backbone


def parameter_groups(
    backbone: Backbone, layers: Plan, head: nn.Module, settings: TrainingSettings
) -> list[dict[str, Any]]:
    """Return the head's and each learning stage's parameters with their peak learning rates.

    The topmost learning stage, and what follows it before the head, have `backbone_learning_rate`; each learning
    stage below has `layer_decay` times the rate of the one above. Stages that a gradual schedule unfreezes later
    are there from the start: without gradients the optimizer leaves them alone.
    """
    groups: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": float(settings.learning_rate or 0.0)}]
    learning = {
        id(parameter) for name in layers.modules() for parameter in backbone.network.get_submodule(name).parameters()
    }
    rate = float(settings.backbone_learning_rate or 0.0)
    for name in (POOL, *(module_name(stage) for stage in reversed(backbone.stages))):
        chosen = [p for p in backbone.network.get_submodule(name).parameters() if id(p) in learning]
        if chosen:
            groups.append({"params": chosen, "lr": rate})
            if name != POOL:
                rate *= 1.0 if settings.layer_decay is None else settings.layer_decay
    return groups


def make_optimizer(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimizer; weights decay, but not biases and the scales and shifts of normalisation (1-D)."""
    split = [
        {"params": chosen, "lr": group["lr"], "weight_decay": decay}
        for group in groups
        for chosen, decay in (
            ([p for p in group["params"] if p.ndim > 1], settings.weight_decay),
            ([p for p in group["params"] if p.ndim <= 1], 0.0),
        )
        if chosen
    ]
    # One pass over each tensor instead of one for each operation; elsewhere torch chooses by itself.
    fused = True if all(p.device.type == "cpu" for group in split for p in group["params"]) else None
    if settings.optimizer == "sgd":
        return torch.optim.SGD(split, momentum=settings.momentum, fused=fused)
    return (torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam)(split, fused=fused)
