"""What a network looks like, group by group: the table that Keras prints as `model.summary()`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from headstart.networks.backbone import Backbone


@dataclass(frozen=True)
class Row:
    """One group of layers: its name, the shape of one picture's output, and how many numbers are learned in it.

    `trainable` is how many of the `parameters` take gradients: 0 when frozen. `statistics` are the running means and
    variances of BatchNorm, which are no parameters. `layers` counts what has parameters of its own by kind, such as
    `4 Conv2d, 4 BatchNorm`: these are the layers that `unfreeze` counts from the end.
    """

    group: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    statistics: int = 0
    layers: str = ""


# timm has several of each, such as Conv2dSame and BatchNormAct2d.
_KINDS = ("BatchNorm", "Conv2d", "LayerNorm", "Linear")
_PLAIN = {"relu": "ReLU", "unit_norm": "UnitNorm", "against_zero": "AgainstZero"}


def summary(backbone: Backbone) -> tuple[Row, ...]:
    """Return one row for each child of the backbone's network, stages under their dotted names."""
    names = ("normalize", *backbone.stages, "pool")
    shapes = output_shapes(backbone.network, backbone.preprocessing.image_size)
    return tuple(
        Row(name, shape, *_count(group), _layers(group))
        for name, shape, group in zip(names, shapes, backbone.network, strict=True)
    )


def head_rows(layers: Sequence[Mapping[str, Any]], features: int) -> tuple[Row, ...]:
    """Return one row for each layer of a head, all of which learn.

    Args:
        layers: As `describe_layers` describes them.
        features: How many numbers the first one takes.

    Raises:
        KeyError: The description is not complete.
    """
    rows, width = [], features
    for layer in layers:
        kind, count = layer["layer"], 0
        told = f"Dropout {layer['share']:g}" if kind == "dropout" else "Linear" if kind == "linear" else _PLAIN[kind]
        if kind == "linear":
            width = layer["out"]
            count = (layer["in"] + bool(layer["bias"])) * width
        elif kind == "against_zero":
            width = 2
        name = f"head.{layer['name']}" if layer["name"] else "head"
        rows.append(Row(name, (width,), count, count, layers=told))
    return tuple(rows)


def output_shapes(network: nn.Sequential, image_size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shape that each child of a network gives for one picture, without the batch axis.

    One black picture is sent through. (torch's meta device would do without computing, but takes longer: 0.2 s
    against 0.05 s for EfficientNet-Lite0.)

    Args:
        network: uint8 `(n, h, w, 3)` in; is not changed.
        image_size: `(height, width)` in pixels.
    """
    device = next((tensor.device for tensor in network.buffers()), torch.device("cpu"))
    values = torch.zeros((1, *image_size, 3), dtype=torch.uint8, device=device)
    shapes = []
    with torch.inference_mode():
        for child in network:
            values = child(values)
            shapes.append(tuple(values.shape[1:]))
    return shapes


def _count(group: nn.Module) -> tuple[int, int, int]:
    """Return how many parameters there are, how many of them learn, and how many statistics."""
    parameters = list(group.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    statistics = sum(
        tensor.numel()
        for part in group.modules()
        for tensor in (getattr(part, "running_mean", None), getattr(part, "running_var", None))
        if isinstance(tensor, torch.Tensor)
    )
    return sum(p.numel() for p in parameters), trainable, statistics


def _layers(group: nn.Module) -> str:
    learned = [part for part in group.modules() if any(True for _ in part.parameters(recurse=False))]
    if not learned:
        pooling = getattr(group, "pooling", None)
        return f"{pooling} pooling" if pooling else type(group).__name__
    counts = Counter(map(_kind, learned))
    return ", ".join(kind if number == 1 else f"{number} {kind}" for kind, number in counts.items())


def _kind(layer: nn.Module) -> str:
    name = type(layer).__name__
    return next((kind for kind in _KINDS if name.startswith(kind)), name)
