"""`headstart preview FOLDER`: a sheet of what the network really sees of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.cli.meanings import Augments
from headstart.cli.options import policy_or_settings, side_or_sides
from headstart.core.errors import SettingError
from headstart.networks import catalog

if TYPE_CHECKING:
    from PIL import Image

    from headstart.learn.preview import Seen


@click.command("preview", cls=Augments)
@click.argument("folder", type=click.Path())
@click.option("--out", type=click.Path(path_type=Path), default=Path("preview.png"), show_default=True)
@click.option("--backbone", default=catalog.DEFAULT, show_default=True, help="Gives size and crop.")
@click.option("--image-size", callback=side_or_sides, help="Side, or height,width, in pixels.")
@click.option("--fit-mode", default="crop", show_default=True, help="crop, pad (letterbox) or squash.")
@click.option("--augmentation", callback=policy_or_settings, default="standard", show_default=True, help="As for `fit`.")
@click.option("--views", type=click.IntRange(1, 20), default=5, show_default=True, help="The first is plain.")
@click.option("--pictures", type=click.IntRange(1, 100), default=8, show_default=True, help="How many to show.")
@click.option("--seed", type=int, default=0, show_default=True, help="The views are those that `fit` makes of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    folder: str,
    out: Path,
    backbone: str,
    image_size: tuple[int, int] | int | None,
    fit_mode: str,
    augmentation: Any,
    views: int,
    pictures: int,
    seed: int,
    as_json: bool,
) -> None:
    """Draw pictures of FOLDER as the network sees them: the crop, the plain view, and augmented views.

    Beside each picture stands the share of its area that the crop cuts off. Nothing is learned.
    """
    from headstart.cli.console import show, table
    from headstart.core.text import count
    from headstart.learn.preview import preview

    seen, sheet = preview(
        folder,
        backbone=backbone,
        image_size=image_size,
        fit=fit_mode,
        augmentation=augmentation,
        views=views,
        pictures=pictures,
        seed=seed,
    )
    _save(sheet, out)
    if as_json:
        rows = [_as_json(picture) for picture in seen]
        click.echo(json.dumps({"out": str(out), "pictures": rows}, ensure_ascii=False))
        return
    made = table("picture", "pixels#", "cut off#")
    for picture in seen:
        made.add_row(picture.name, f"{picture.size[0]} × {picture.size[1]}", f"{100 * picture.cut_off:.0f} %")
    show(made, "", f"{out}: {count(len(seen), 'picture')}, {count(views, 'view')} each")


def _as_json(picture: Seen) -> dict[str, Any]:
    width, height = picture.size
    return {"path": picture.name, "width": width, "height": height, "cut_off": round(picture.cut_off, 4)}


def _save(sheet: Image.Image, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out, "PNG")
    except OSError as error:
        raise SettingError(
            f"{out} cannot be written: {error.strerror or error}. Choose another file with --out."
        ) from None
