"""What fine-tuning moved, and how far."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from headstart.learn.finetune.unfreezing import POOL, module_name
from headstart.networks import Backbone


def distances(before: nn.Module, head_before: nn.Module, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    """Return how far each stage, and the head, moved.

    Returns:
        Rows with the name of the `stage`, how far it `moved` (norm of the change over the norm of what was there),
        and whether it is `untouched`, every bit of it.
    """
    names = {**{stage: module_name(stage) for stage in backbone.stages}, POOL: POOL}
    pairs = {stage: (before.get_submodule(n), backbone.network.get_submodule(n)) for stage, n in names.items()}
    rows = []
    for stage, modules in {**pairs, "head": (head_before, head)}.items():
        old, new = (module.state_dict() for module in modules)
        if not old:  # pooling alone has nothing that could move
            continue
        floats = [name for name in old if old[name].is_floating_point()]
        change = sum(float((new[name] - old[name]).double().square().sum()) for name in floats) ** 0.5
        size = sum(float(old[name].double().square().sum()) for name in floats) ** 0.5
        untouched = all(torch.equal(old[name], new[name]) for name in old)
        rows.append({"stage": stage, "moved": change / size if size else 0.0, "untouched": untouched})
    return rows
