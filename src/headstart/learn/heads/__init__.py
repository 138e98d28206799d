"""Heads: features in, logits out; each in its own file."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from headstart.core.errors import unknown_name
from headstart.learn.heads.base import ClassWeight, FittedHead, Head, OnHeadEpoch
from headstart.learn.heads.linear import LinearHead
from headstart.learn.heads.mlp import MLPHead
from headstart.learn.heads.prototype import PrototypeHead
from headstart.learn.heads.single_output import SingleOutput

__all__ = [
    "HEADS",
    "ClassWeight",
    "FittedHead",
    "Head",
    "LinearHead",
    "MLPHead",
    "OnHeadEpoch",
    "PrototypeHead",
    "SingleOutput",
    "make_head",
]

HEADS: dict[str, type[LinearHead] | type[MLPHead] | type[PrototypeHead]] = {
    head.name: head for head in (LinearHead, MLPHead, PrototypeHead)
}


def make_head(name: str, **settings: Any) -> Head:
    """Return an unfitted head.

    Args:
        name: One of `HEADS`.
        settings: Its hyper-parameters by name.

    Raises:
        SettingError: There is no such head or hyper-parameter, or a value is impossible.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS, "`headstart fit --help`")
    known = [field.name for field in fields(HEADS[name])]
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of the {name} head", setting, known or ["(none)"], "`headstart fit --help`")
    return HEADS[name](**settings)
