"""`headstart preview DATA`: a sheet of what the network really sees of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

    from headstart.learn.preview import Seen

# Drawn where nobody asks for another.
EXAMPLE = "standard"
VIEWS, MOST_VIEWS = 5, 20


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
@click.option(
    "--views", type=click.IntRange(1, MOST_VIEWS), help=f"The first is plain.  [default: the recipe's; else {VIEWS}]"
)
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
    from headstart.core.text import shown
    from headstart.learn.augment import Augmentation, make_augmentation
    from headstart.learn.preview import choose_pictures, draw_sheet, look_at_all, remarks
    from headstart.learn.several import choose_several_labels
    from headstart.networks import load_backbone

    values, example = _values(ctx)
    changes = make_augmentation(values["augmentation"])
    views = 1 if changes == Augmentation() else min(values["views"] or VIEWS, MOST_VIEWS)
    several = choose_several_labels(values["output"], values["label_columns"], values["label_separator"])
    preprocessing = load_backbone(
        values["backbone"], image_size=values["image_size"], fit=values["fit_mode"], blank=True
    ).preprocessing
    chosen = choose_pictures(data, pictures, several)
    seen, unreadable = look_at_all(chosen, preprocessing, changes, views, values["seed"])
    for name, reason in unreadable:
        click.echo(f"headstart: {shown(name)}: {reason}", err=True)
    notes = remarks(seen, len(unreadable), example)
    height, width = preprocessing.image_size
    subtitle = (
        f"{values['backbone']}, {width} × {height} px, {values['fit_mode']}; "
        f"augmentation {_words(values['augmentation'])}, seed {values['seed']}"
    )
    _save(draw_sheet(seen, f"What the network sees of {Path(data).resolve().name}", subtitle, notes), out)
    if as_json:
        left_out = [{"path": name, "reason": reason} for name, reason in unreadable]
        told = {"out": str(out), "pictures": list(map(_as_json, seen)), "left_out": left_out, "notes": notes}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _show(seen, views, notes, out)


def _values(ctx: click.Context) -> tuple[dict[str, Any], str | None]:
    """Return all parameters of `fit`, given or not, and the policy of the views where nobody asked for one."""
    from headstart.cli.fit import parameters
    from headstart.learn.classifier import ImageClassifier
    from headstart.learn.kinds import wrong_values

    given = parameters(ctx)
    values = {**ImageClassifier().get_params(), **given}
    if wrong := wrong_values(values):
        raise SettingError("\n  ".join(wrong.values()))
    of_a_fit = "augmentation" in given or ctx.params["recipe"] or ctx.params["config"]
    if of_a_fit or values["views"] == 1:
        return values, None
    return {**values, "augmentation": EXAMPLE}, EXAMPLE


def _show(seen: Sequence[Seen], views: int, notes: Sequence[str], out: Path) -> None:
    from headstart.cli.console import show, show_prose, table
    from headstart.core.text import count

    made = table("picture", "pixels#", "cut off#")
    for one in seen:
        made.add_row(one.picture.name, f"{one.size[0]} × {one.size[1]}", f"{100 * one.cut_off:.0f} %")
    show(made, "", f"{out}: {count(len(seen), 'picture')}, {count(views, 'view')} each")
    show_prose(*notes)


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


def _words(augmentation: Any) -> str:
    if not isinstance(augmentation, dict):
        return str(augmentation or DEFAULT_AUGMENTATION)
    return ", ".join(str(value) if name == "policy" else f"{name} {value:g}" for name, value in augmentation.items())
