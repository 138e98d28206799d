"""Networks small enough for tests of training: timm's own test models, with random weights."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.networks import Backbone, load_backbone


def tiny_backbone(name: str, folder: Path, *, image_size: int = 32, **settings: str) -> Backbone:
    """Return a timm model with random weights as a backbone; `folder` is used for its weights file."""
    needs_size = {"img_size": image_size} if name.startswith("test_vit") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, **needs_size)
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):  # neither zeros, which weight decay cannot move, nor ones
                nn.init.normal_(part.weight, 1, 0.1)
                nn.init.normal_(part.bias, 0, 0.1)
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
    file = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, file)
    return load_backbone(name, weights=file, image_size=image_size, **settings)
