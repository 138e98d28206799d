"""What each parameter of `ImageClassifier` may be, by itself, so that a wrong one is told before anything uses it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from headstart.networks import catalog

LONGEST = 100  # characters of a value in a message


def wrong_values(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return a sentence by name for every parameter whose value is none that it may have: what it is, what to give."""
    return {
        name: f"{name} is {_short(parameters[name])}: give {expected}."
        for name, (fits, expected) in KINDS.items()
        if not fits(parameters[name])
    }


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, of Python or numpy; `True` is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a number, of Python or numpy; `True`, nan, infinity and what is beyond all floats are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def plain_number(value: Any) -> Any:
    """Return a number as Python's own, also one of numpy; whatever is no number as it is."""
    if is_whole(value):
        return int(value)
    return float(value) if is_number(value) else value


def plain_sequence(value: Any) -> Any:
    """Return an array of numpy, or a column of pandas, as a tuple; whatever is none as it is."""
    if isinstance(value, (str, bytes, Sequence, Mapping)) or getattr(value, "ndim", 0) != 1:
        return value
    return tuple(value.tolist())


def is_text(value: Any) -> bool:
    """Whether it is text."""
    return isinstance(value, str)


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 < value < 1


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _from_to(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: is_whole(value) and least <= value <= most


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def all_fit(value: Any) -> bool:
        value = plain_sequence(value)
        return isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and all(map(fits, value))

    return all_fit


def _is_size(value: Any) -> bool:
    return is_whole(value) or (_all(is_whole)(value) and len(value) == 2)


def _is_class_weight(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_text(name) and _is_positive(weight) for name, weight in value.items())
    return is_text(value) and value == "balanced"


def _name(examples: str) -> tuple[Callable[[Any], bool], str]:
    return is_text, f"a name, such as {examples}"


_SHARE = (_is_share, "a share between 0 and 1")

# Whether a name exists, and what goes with what, is found by what uses them (`parameters.check`); so is `unfreeze`,
# which may stand in `training` too.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "backbone": _name(f"{catalog.DEFAULT!r} (`headstart models` lists them)"),
    "method": _name("'auto', 'frozen' or 'finetune'"),
    "head": _name("'linear', 'mlp' or 'prototype'"),
    "hidden": (_or_none(_all(_from_to(1))), "whole numbers from 1, such as (256,)"),
    "dropout": (_or_none(lambda value: is_number(value) and 0 <= value < 1), "a share from 0 to below 1"),
    "epochs": (_or_none(_from_to(1)), "a whole number from 1"),
    "batch_size": (_or_none(_from_to(1)), "a whole number from 1"),
    "learning_rate": (_or_none(_is_positive), "None or a number above 0, such as 0.001"),
    "patience": (_or_none(_from_to(0)), "a whole number from 0"),
    "output": _name("'softmax', 'sigmoid' or 'multilabel'"),
    "image_size": (_or_none(_is_size), "None, or one or two whole numbers from 16 to 4096"),
    "pooling": (_or_none(is_text), "None or a name, such as 'avg', 'max' or 'flatten'"),
    "fit_mode": _name("'crop', 'pad' or 'squash'"),
    "views": (_or_none(_from_to(1, 1000)), "a whole number from 1 to 1000"),
    "augmentation": (
        lambda value: value is None or isinstance(value, (str, dict)),
        "None, a policy such as 'light', or a dictionary of single settings",
    ),
    "training": (_or_none(lambda value: isinstance(value, dict)), "None or a dictionary, such as {'epochs': 10}"),
    "budget": (_or_none(lambda value: is_text(value) or is_number(value)), "None or a time such as 90s, 10m or 2h"),
    "class_weight": (_or_none(_is_class_weight), "None, 'balanced' or weights above 0 by class name"),
    "label_columns": (_or_none(_all(is_text)), "None or a list of columns' names"),
    "label_separator": (is_text, "the text between two labels, such as ';'"),
    "weights": (_or_none(lambda value: isinstance(value, (str, os.PathLike))), "None or the path of a file"),
    "validation_size": _SHARE,
    "test_size": _SHARE,
    "coverage": _SHARE,
    "false_alarm_rate": _SHARE,
    "seed": (_from_to(0, 2**32 - 1), f"a whole number from 0 to {2**32 - 1}"),
    "device": _name("'auto', 'cpu', 'cuda' or 'mps'"),
    "precision": _name("'auto', 'float32' or 'bfloat16'"),
}
