"""Heat maps through the network's inside: where the evidence for a class came from. Needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from headstart.networks.outline import output_shapes
from headstart.networks.pooling import TokenPool
from headstart.use.explain.heat import enlarge

if TYPE_CHECKING:
    from headstart.networks import Backbone
    from headstart.networks.export import Classifier

BATCH_SIZE = 8


def heat_maps(model: tuple[Backbone, Classifier], images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return where the evidence for a class is in each picture.

    Of a network that pools its last maps: gradient times activation at each place of them, summed over channels. With
    averages and a linear head that is Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) and CAM (Zhou et al. 2016,
    arXiv:1512.04150) to the last digit; with other poolings, where the gradient differs from place to place, it is
    HiResCAM (Draelos and Carin 2020, arXiv:2011.08891).

    Of a transformer: Grad-CAM on the patches that go into its last block, laid out as the grid they came from. Above
    that block the class token no longer hears of them, and at single patches the gradient says little.

    Computed by captum (Kokhlikyan et al. 2020, arXiv:2009.07896). What is explained is the class's logit less the mean
    of the others', as the softmax sees nothing else of them. docs/decisions/0009-explain.md has what was measured.

    Args:
        model: What `networks.load_network` returns.
        images: uint8 `(n, h, w, 3)`, as the network sees them (`Preprocessing`).
        targets: int `(n,)`, the class of each picture to explain.

    Returns:
        float32 `(n, h, w)` in [0, 1]; a picture's strongest place is 1; all 0 where nothing speaks for the class.
    """
    from captum.attr import LayerGradCam, LayerGradientXActivation

    backbone, classifier = model
    device = next(classifier.parameters()).device
    cut, layout = _choose_layer(backbone)
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH_SIZE])).to(device)
        with torch.no_grad():
            maps, prefix = layout.take_apart(backbone.network[:cut](chunk))
        above = _Above(backbone.network[cut:], classifier.head, layout, prefix)
        method = LayerGradCam(above, above.maps) if prefix is not None else LayerGradientXActivation(above, above.maps)
        chosen = torch.as_tensor(np.asarray(targets[start : start + BATCH_SIZE], np.int64), device=device)
        evidence = cast(torch.Tensor, method.attribute(maps, target=chosen)).sum(dim=1)
        found.append(evidence.detach().clamp(min=0).float().cpu().numpy())
    return enlarge(np.concatenate(found) if found else np.zeros((0, 1, 1), np.float32), images.shape[1:3])


@dataclass(frozen=True)
class _Layout:
    """How a layer's activations lie: `maps` (n, c, h, w), `maps_last` (n, h, w, c) or `tokens` (n, t, c).

    `rows` and `columns` are those of the grid of patches, of which there are `prefix` tokens in front.
    """

    kind: str
    rows: int
    columns: int
    prefix: int = 0

    def take_apart(self, activations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return activations as maps `(n, c, rows, columns)`, and the tokens that have no place."""
        if self.kind == "maps":
            return activations, None
        if self.kind == "maps_last":
            return activations.permute(0, 3, 1, 2), None
        patches = activations[:, self.prefix :].transpose(1, 2)
        grid = patches.reshape(len(patches), -1, self.rows, self.columns)
        return grid, activations[:, : self.prefix]

    def put_together(self, maps: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        """Undo `take_apart`."""
        if self.kind == "maps":
            return maps
        if prefix is None:
            return maps.permute(0, 2, 3, 1)
        return torch.cat([prefix, maps.flatten(2).transpose(1, 2)], dim=1)


class _Above(nn.Module):
    """The network from a place on: maps there -> logits `(n, c)`, each less the mean of the others."""

    def __init__(self, layers: nn.Module, head: nn.Module, layout: _Layout, prefix: torch.Tensor | None) -> None:
        super().__init__()
        self.maps = nn.Identity()  # the layer that captum looks at
        self.layers = layers
        self.head = head
        self.layout = layout
        self.prefix = prefix

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.layers(self.layout.put_together(self.maps(maps), self.prefix)))
        count = logits.shape[1]
        return (logits - logits.mean(dim=1, keepdim=True)) * (count / max(1, count - 1))


def _choose_layer(backbone: Backbone) -> tuple[int, _Layout]:
    """Return where to look: the position in the network to cut at, and how the activations lie there."""
    shapes = output_shapes(backbone.network, backbone.preprocessing.image_size)
    pool = backbone.network[-1]
    blocks = [position for position, stage in enumerate(backbone.stages, 1) if stage.startswith("blocks.")]
    if isinstance(pool, TokenPool) and blocks:
        return blocks[-1], _tokens(shapes[blocks[-1] - 1], backbone, pool.prefix_tokens)
    found = (1, _Layout("maps", *shapes[0][1:3]))
    for position, shape in enumerate(shapes[1:-1], 2):
        layout = _layout(shape, backbone)
        if layout is not None and layout.rows * layout.columns > 1:
            found = (position, layout)
    return found


def _layout(shape: tuple[int, ...], backbone: Backbone) -> _Layout | None:
    """Return how activations of a shape (without the batch axis) lie; None where they have no places."""
    if len(shape) == 3:  # the two axes that have the picture's proportions are rows and columns
        height, width = backbone.preprocessing.image_size
        first, last = (abs(math.log(a * width / (b * height))) for a, b in (shape[1:], shape[:2]))
        return _Layout("maps_last", *shape[:2]) if last < first else _Layout("maps", *shape[1:])
    return _tokens(shape, backbone, None) if len(shape) == 2 else None


def _tokens(shape: tuple[int, ...], backbone: Backbone, prefix: int | None) -> _Layout:
    """Return the grid of tokens `(t, c)`; where it is not known how many stand in front, the fewest that leave one."""
    height, width = backbone.preprocessing.image_size
    for ahead in range(shape[0]) if prefix is None else [prefix]:
        patches = shape[0] - ahead
        rows = max(1, round(math.sqrt(patches * height / width)))
        if rows * (patches // rows) == patches:
            return _Layout("tokens", rows, patches // rows, ahead)
    return _Layout("tokens", 1, shape[0] - (prefix or 0), prefix or 0)
