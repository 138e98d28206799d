"""The layers that heads are made of, and a head as plain values that `model.json` can hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from headstart.core.errors import ModelError

# Far beyond any head: more is a damaged description.
MAX_WIDTH = 10_000_000


class UnitNorm(nn.Module):
    """Divides every row by its length; a row of zeros stays zero."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return rows of length 1, of the same shape `(n, d)`."""
        return F.normalize(features, dim=1, eps=1e-12)


class AgainstZero(nn.Module):
    """One logit z `(n, 1)` -> the logits `(0, z)` of two classes.

    Their softmax is `(1 - sigmoid(z), sigmoid(z))` and their cross-entropy is the binary cross-entropy of `sigmoid(z)`:
    everything that works with two outputs works with one.
    """

    def forward(self, logit: torch.Tensor) -> torch.Tensor:
        """Return float `(n, 2)`."""
        return F.pad(logit, (1, 0))


_PLAIN: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "unit_norm": UnitNorm, "against_zero": AgainstZero}


def describe_layers(head: nn.Module) -> list[dict[str, Any]]:
    """Return a head's layers as plain values, in order, from which `build_layers` makes its twin without weights.

    Args:
        head: A single layer or an `nn.Sequential` of them.

    Returns:
        A dictionary a layer: its `name` within the head (empty for a single layer), its `layer` (`linear`, `dropout`,
        `relu`, `unit_norm`, `against_zero`), and its sizes.

    Raises:
        TypeError: A layer is of another kind: it has to be added here before a model with it can be saved.
    """
    named = list(head.named_children()) if isinstance(head, nn.Sequential) else [("", head)]
    return [{"name": name, **_describe(layer)} for name, layer in named]


def build_layers(layers: Sequence[dict[str, Any]]) -> nn.Module:
    """Return the head that `describe_layers` described, in `eval` mode; its weights are arbitrary.

    Raises:
        ModelError: The description is damaged, or of a newer version.
    """
    try:
        built = OrderedDict((str(layer["name"]), _build(layer)) for layer in layers)
        if not built or len(built) != len(layers) or ("" in built and len(built) > 1):
            raise ValueError("the layers have no names or the same ones")
        head = built[""] if "" in built else nn.Sequential(built)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the description of the model's head is damaged or of a newer version ({type(error).__name__}: {error}). "
            "Restore model.json, upgrade headstart, or fit the model again."
        ) from error
    return head.eval()


def _describe(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        sizes = {"in": layer.in_features, "out": layer.out_features, "bias": layer.bias is not None}
        return {"layer": "linear", **sizes}
    if isinstance(layer, nn.Dropout):
        return {"layer": "dropout", "share": layer.p}
    for kind, made in _PLAIN.items():
        if type(layer) is made:
            return {"layer": kind}
    raise TypeError(f"a {type(layer).__name__} in a head: add it to networks/layers.py.")


def _build(layer: dict[str, Any]) -> nn.Module:
    makers: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Linear(_width(layer["in"]), _width(layer["out"]), bias=bool(layer["bias"])),
        "dropout": lambda: nn.Dropout(float(layer["share"])),
        **_PLAIN,
    }
    return makers[layer["layer"]]()


def _width(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= MAX_WIDTH:
        raise ValueError(f"a layer is {value!r} wide")
    return value
