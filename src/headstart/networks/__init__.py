"""Pretrained networks: where their weights come from, their stages, and what they make of a picture.

`catalog`, `entries` and `local` need no torch; everything that does is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstart.networks.catalog import CATALOG, DEFAULT, Availability, available, list_models
from headstart.networks.entries import Entry

if TYPE_CHECKING:
    from headstart.networks.backbone import Backbone, check_name, load_backbone, prefix, suffix
    from headstart.networks.freezing import freeze, tensor_hash, unfreeze
    from headstart.networks.imagenet import ImageNetClass, imagenet_classes
    from headstart.networks.outline import Row, head_rows, summary
    from headstart.networks.restore import load_network
    from headstart.networks.weights import Weights

_HOMES = {
    "Backbone": "backbone",
    "ImageNetClass": "imagenet",
    "check_name": "backbone",
    "Row": "outline",
    "Weights": "weights",
    "freeze": "freezing",
    "head_rows": "outline",
    "imagenet_classes": "imagenet",
    "load_backbone": "backbone",
    "load_network": "restore",
    "prefix": "backbone",
    "suffix": "backbone",
    "summary": "outline",
    "tensor_hash": "freezing",
    "unfreeze": "freezing",
}

__all__ = [
    "CATALOG",
    "DEFAULT",
    "Availability",
    "Backbone",
    "Entry",
    "ImageNetClass",
    "Row",
    "Weights",
    "available",
    "check_name",
    "freeze",
    "head_rows",
    "imagenet_classes",
    "list_models",
    "load_backbone",
    "load_network",
    "prefix",
    "suffix",
    "summary",
    "tensor_hash",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
