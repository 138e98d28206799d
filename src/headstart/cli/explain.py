"""`headstart explain MODEL PICTURE…`: where the model looked, drawn over the picture."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from headstart.use.explain import Explanation, Method


LONGEST_STEM = 200


@click.command("explain")
@click.argument("model", type=click.Path())
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE…")
@click.option("--out", type=click.Path(path_type=Path), default=Path("explained"), show_default=True)
@click.option("--class", "target", help="The class to explain; left out, each picture's most probable one.")
@click.option(
    "--method", default="auto", show_default=True, help="gradcam (needs torch), occlusion (needs only the model)."
)
@click.option("--data", type=click.Path(), help="What MODEL was fitted on: name the most similar training pictures.")
@click.option("--similar", "count", type=click.IntRange(1, 100), default=5, show_default=True, help="How many of them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a picture.")
def command(
    model: str,
    pictures: tuple[str, ...],
    out: Path,
    target: str | None,
    method: Method,
    data: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Show where MODEL looked in pictures: files, folders or globs. A PNG for each is written into the folder OUT.

    Bright places speak for the class; the network did not see what is dark. A picture that cannot be read is said and
    the others go on; the exit code is then 1.
    """
    from headstart.cli.console import ConsoleProgress
    from headstart.core.errors import SettingError
    from headstart.core.pictures import expand
    from headstart.face import explain_each

    progress = ConsoleProgress(quiet=as_json)
    explained = explain_each(
        model, expand(pictures), target=target, method=method, data=data, count=count, progress=progress
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        broken = _write(explained, out, as_json)
    except OSError as error:
        raise SettingError(
            f"{out} cannot be written: {error.strerror or error}. Choose another folder with --out."
        ) from None
    if broken:
        sys.exit(1)


def _write(explained: Iterator[Explanation], out: Path, as_json: bool) -> int:
    """Write the overlays and tell of each as it comes; return how many pictures could not be read."""
    from headstart.core.text import shown

    taken: set[str] = set()
    broken = 0
    for one in explained:
        if one.error is not None:
            broken += 1
            click.echo(f"headstart: {shown(one.name)}: {one.error}", err=True)
            if as_json:
                click.echo(json.dumps({"path": shown(one.name), "error": one.error}, ensure_ascii=False))
            continue
        file = out / _free_name(_short(Path(one.name).stem), taken)
        _save(one, file)
        if as_json:
            click.echo(json.dumps(_as_json(one, file), ensure_ascii=False))
            continue
        named = f"unknown, nearest: {one.target}" if one.unknown and one.target == one.label else one.target
        click.echo(shown(f"{one.name}  {named} {one.probability:.3f}  {file}"))
        for path, label, similarity in one.similar:
            click.echo(shown(f"    {similarity:.3f}  {label}  {path}"))
    return broken


def _short(stem: str) -> str:
    """Return as much of a name as leaves room for what is added: file systems allow 255 bytes."""
    return os.fsdecode(os.fsencode(stem)[:LONGEST_STEM]).encode("utf-8", "surrogateescape").decode("utf-8", "ignore")


def _free_name(stem: str, taken: set[str]) -> str:
    """Return a name for the overlay of a picture that no other picture of this run has."""
    number, name = 1, f"{stem}-heat.png"
    while name in taken:
        number += 1
        name = f"{stem}-heat-{number}.png"
    taken.add(name)
    return name


def _save(one: Explanation, file: Path) -> None:
    """Write an overlay, whole or not at all."""
    from PIL import Image

    from headstart.core.replacing import new_file

    with new_file(file) as temporary:
        Image.fromarray(one.overlay()).save(temporary, "PNG")


def _as_json(one: Explanation, file: Path) -> dict[str, Any]:
    from headstart.core.text import shown

    peak = one.peak()
    return {
        "path": shown(one.name),
        "label": one.label,
        "class": one.target,
        "probability": round(one.probability, 6),
        **({} if one.unknown is None else {"unknown": one.unknown}),
        "method": one.method,
        "overlay": shown(file),
        "peak": None if peak is None else [round(share, 4) for share in peak],
        "similar": [
            {"path": shown(path), "label": label, "similarity": round(similarity, 4)}
            for path, label, similarity in one.similar
        ],
    }
