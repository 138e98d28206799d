"""Values of options that several verbs take: from text on the command line, or from TOML, to what Python takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click


def whole_numbers(ctx: click.Context, option: click.Parameter, value: Any) -> tuple[int, ...] | None:
    """Turn `256,128`, 256 or [256, 128] into a tuple.

    Raises:
        click.BadParameter: A part is no whole number.
    """
    if value is None:
        return None
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    try:
        return tuple(int(str(part)) for part in parts)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 256,128", ctx, option) from None


def names(ctx: click.Context, option: click.Parameter, value: Any) -> tuple[str, ...] | None:
    """Turn `red,round` or ["red", "round"] into a tuple."""
    if value is None:
        return None
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return tuple(str(part).strip() for part in parts)


def several_labels(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--output`, `--labels` and `--label-separator`, for `several.choose_several_labels`."""
    for add in (
        click.option(
            "--label-separator", default=";", show_default=True, help="multilabel: between names in column label."
        ),
        click.option(
            "--labels",
            "--label-columns",
            "labels",
            callback=names,
            help="multilabel: columns of 0 and 1.  [default: label:NAME]",
        ),
        click.option("--output", type=click.Choice(["softmax", "multilabel"]), default="softmax", help="As for `fit`."),
    ):
        command = add(command)
    return command


def side_or_sides(ctx: click.Context, option: click.Parameter, value: Any) -> int | tuple[int, ...] | None:
    """Turn `224` into a number and `224,320` into (height, width).

    Raises:
        click.BadParameter: A part is no whole number.
    """
    sides = whole_numbers(ctx, option, value)
    return sides[0] if sides and len(sides) == 1 else sides


def named_numbers(ctx: click.Context, option: click.Parameter, value: Any) -> str | dict[str, Any] | None:
    """Turn `balanced` into itself and `cat=2,dog=1` into a dictionary.

    Raises:
        click.BadParameter: A value is no number, or a name is there twice.
    """
    if not isinstance(value, str) or "=" not in value:
        return value
    values = _dictionary(ctx, option, _pairs(ctx, option, value))
    for name, given in values.items():
        if not isinstance(given, (int, float)):
            raise click.BadParameter(f"{given!r} is not a number; write {name}=NUMBER", ctx, option)
    return values


def policy_or_settings(ctx: click.Context, option: click.Parameter, value: Any) -> str | dict[str, Any] | None:
    """Turn `flip` into itself and `flip,rotation=15` into a dictionary; `make_augmentation` knows what may be in it."""
    if not isinstance(value, str) or "=" not in value:
        return value
    return _dictionary(ctx, option, _pairs(ctx, option, value, first="policy"))


def named_values(ctx: click.Context, option: click.Parameter, value: Any) -> dict[str, Any] | None:
    """Turn `epochs=5,optimizer=sgd` into a dictionary of numbers, yes or no (true, false) and words.

    Raises:
        click.BadParameter: A part has no `=`, or a name is there twice.
    """
    return _dictionary(ctx, option, _pairs(ctx, option, value)) if isinstance(value, str) else value


def layers(ctx: click.Context, option: click.Parameter, value: Any) -> int | str | list[Any] | None:
    """Turn `4` into a number, `blocks.6=3,blocks.5=7` into (stage, epochs) pairs, and leave a stage's name.

    Raises:
        click.BadParameter: There is an `=`, but not in every part.
    """
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    if "=" in value:
        return [[_value(stage), epochs] for stage, epochs in _pairs(ctx, option, value)]
    return int(value) if value.isdigit() else value


def _pairs(ctx: click.Context, option: click.Parameter, text: str, first: str | None = None) -> list[tuple[str, Any]]:
    """Read NAME=VALUE,…; a part without `=` is the value of `first`, where there is one."""
    pairs: list[tuple[str, Any]] = []
    for part in re.split(r",(?![^\[(]*[\])])", text):  # not within brackets
        name, separator, value = part.strip().partition("=")
        if not separator and first is None:
            raise click.BadParameter(f"{part.strip()!r} has no '='; write NAME=VALUE,…", ctx, option)
        pairs.append((name.strip(), _value(value.strip())) if separator else (str(first), name))
    return pairs


def _dictionary(ctx: click.Context, option: click.Parameter, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise click.BadParameter(
                f"{name} is given twice, {values[name]!r} and {value!r}: leave one out", ctx, option
            )
        values[name] = value
    return values


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
