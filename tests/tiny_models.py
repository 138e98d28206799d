"""A model folder small enough for tests: three classes, a network of one convolution, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart.core import artifact
from headstart.core.preprocessing import Preprocessing
from headstart.learn.save import write_network
from headstart.networks.export import Classifier
from headstart.networks.novelty import Novelty

CLASSES = ("ant", "bee", "wasp")


class TinyBackbone(nn.Module):
    """uint8 `(n, 32, 32, 3)` -> `(n, 8)`."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(images.permute(0, 3, 1, 2).float() / 127.5 - 1)).mean((2, 3))


def write_model(
    folder: Path, *, classes: tuple[str, ...] = CLASSES, seed: int = 0, known: np.ndarray | None = None
) -> Path:
    """Write a model folder of a tiny network with random weights, whose answers are far from uniform.

    Pictures `known`, uint8 `(n, 32, 32, 3)`, give it a novelty, which is 0 for them.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Linear(8, len(classes))
        nn.init.normal_(head.weight, std=20.0)
        backbone = TinyBackbone()
        novelty = None if known is None else Novelty(backbone(torch.from_numpy(known)).detach(), neighbours=1)
        network = Classifier(backbone, head, novelty).eval()
    preprocessing = Preprocessing((32, 32))
    samples = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with artifact.new_model_folder(folder) as temporary:
        write_network(temporary, network, classes, preprocessing, samples)
        artifact.write_description(temporary, {"classes": list(classes), "preprocessing": preprocessing.to_json()})
    return folder
