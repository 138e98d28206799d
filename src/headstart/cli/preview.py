"""`headstart preview DATA`: a sheet of what the network really sees of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.cli.meanings import Augments
from headstart.cli.options import names, policy_or_settings, side_or_sides
from headstart.core.errors import SettingError
from headstart.learn.given import DEFAULT_AUGMENTATION
from headstart.networks import catalog

if TYPE_CHECKING:
    from PIL import Image

    from headstart.learn.preview import Seen, Sheet

# Drawn where nobody asks for another.
EXAMPLE = "standard"


@click.command("preview", cls=Augments)
@click.argument("data", type=click.Path())
@click.option("--out", type=click.Path(path_type=Path), default=Path("preview.png"), show_default=True)
@click.option("--recipe", help="As for `fit`: the sheet is of what it sees.")
@click.option("--config", type=click.Path(), help="As for `fit`: what does not change the pictures is passed over.")
@click.option("--backbone", default=catalog.DEFAULT, show_default=True, help="Gives size and crop.")
@click.option("--image-size", callback=side_or_sides, help="Side, or height,width, in pixels.")
@click.option("--fit-mode", default="crop", show_default=True, help="crop, pad (letterbox) or squash.")
@click.option(
    "--augmentation",
    callback=policy_or_settings,
    help=f"As for `fit`, whose own is {DEFAULT_AUGMENTATION}.  [default: the recipe's; else {EXAMPLE}, an example]",
)
@click.option("--views", type=click.IntRange(1, 20), help="The first is plain.  [default: the recipe's; else 5]")
@click.option("--pictures", type=click.IntRange(1, 100), default=8, show_default=True, help="How many to show.")
@click.option("--output", default="softmax", show_default=True, help="multilabel: DATA has several labels a picture.")
@click.option("--label-columns", "--labels", callback=names, help="multilabel: as for `fit`.")
@click.option("--label-separator", default=";", show_default=True, help="multilabel: as for `fit`.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="The views are those that `fit` makes of it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_context
def command(ctx: click.Context, /, data: str, out: Path, pictures: int, as_json: bool, **_: Any) -> None:
    """Draw pictures of DATA as the network sees them: the crop, the plain view, and augmented views.

    DATA is a folder, a CSV or Parquet manifest, or one picture. Beside each picture stands the share of its area that
    the crop cuts off. Pictures that cannot be read are named and left out. Nothing is learned.
    """
    from headstart.cli.fit import parameters
    from headstart.core.text import shown
    from headstart.learn.classifier import ImageClassifier
    from headstart.learn.preview import preview

    given = parameters(ctx)
    of_a_fit = "augmentation" in given or ctx.params["recipe"] or ctx.params["config"]
    example = None if of_a_fit or given.get("views") == 1 else EXAMPLE
    sheet = preview(data, ImageClassifier(**given), pictures=pictures, example=example)
    for name, reason in sheet.left_out:
        click.echo(f"headstart: {shown(name)}: {reason}", err=True)
    _save(sheet.image, out)
    if as_json:
        left_out = [{"path": name, "reason": reason} for name, reason in sheet.left_out]
        told = {"out": str(out), "pictures": list(map(_as_json, sheet.seen)), "left_out": left_out}
        click.echo(json.dumps({**told, "notes": sheet.notes}, ensure_ascii=False))
    else:
        _show(sheet, out)


def _show(sheet: Sheet, out: Path) -> None:
    from headstart.cli.console import show, show_prose, table
    from headstart.core.text import count

    made = table("picture", "pixels#", "cut off#")
    for one in sheet.seen:
        made.add_row(one.picture.name, f"{one.size[0]} × {one.size[1]}", f"{100 * one.cut_off:.0f} %")
    views = count(len(sheet.seen[0].views), "view")
    show(made, "", f"{out}: {count(len(sheet.seen), 'picture')}, {views} each")
    show_prose(*sheet.notes)


def _as_json(seen: Seen) -> dict[str, Any]:
    width, height = seen.size
    label = {"label": seen.picture.label} if seen.picture.label else {}
    return {"path": seen.picture.name, **label, "width": width, "height": height, "cut_off": round(seen.cut_off, 4)}


def _save(sheet: Image.Image, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out, "PNG")
    except OSError as error:
        raise SettingError(
            f"{out} cannot be written: {error.strerror or error}. Choose another file with --out."
        ) from None
