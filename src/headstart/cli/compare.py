"""`headstart compare DATA`: which backbone, head and method to take, and how sure that is."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.cli.options import several_labels
from headstart.learn.shares import TEST_SIZE, VALIDATION_SIZE
from headstart.networks import catalog

if TYPE_CHECKING:
    from headstart.learn.compare.comparison import Comparison
    from headstart.learn.several import SeveralLabels

WIDTH = 160  # columns that the tables may take: figures must not be cut


def names(ctx: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    """Turn `a,b` into a tuple."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command("compare")
@click.argument("data", type=click.Path())
@click.option("--backbones", default=catalog.DEFAULT, show_default=True, callback=names, help="NAME,NAME,…")
@click.option(
    "--heads", default="linear", show_default=True, callback=names, help="Of linear, mlp, prototype (not multilabel)."
)
@click.option("--methods", default="frozen", show_default=True, callback=names, help="Of frozen, finetune.")
@click.option("--folds", type=int, default=5, show_default=True, help="Parts of each repeat.")
@click.option("--repeats", type=int, default=5, show_default=True, help="How often they are dealt out; finetune once.")
@several_labels
@click.option("--budget", help="Time that all fine-tuning may take, such as 10m; what exceeds it is left out.")
@click.option(
    "--picture", type=click.Path(path_type=Path), help="How good against how fast.  [default: NAME-compare.png]"
)
@click.option("--validation-size", type=float, default=VALIDATION_SIZE, show_default=True, help="As for `fit`.")
@click.option("--test-size", type=float, default=TEST_SIZE, show_default=True, help="As for `fit`: stays untouched.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or bfloat16, of the features.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    data: str,
    output: str,
    labels: tuple[str, ...] | None,
    label_separator: str,
    picture: Path | None,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare backbones, heads and methods on the same splits of DATA: a folder of class folders, or a manifest.

    Training and validation pictures alone are used, by repeated cross-validation; test pictures stay untouched.
    """
    from headstart.cli.console import ConsoleProgress
    from headstart.core.errors import SettingError
    from headstart.learn.several import choose_several_labels

    several = choose_several_labels(output, labels, label_separator)
    target = picture or Path(f"{Path(data).resolve().stem}-compare.png")
    if not os.access(target.parent, os.W_OK) or target.is_dir():  # before any work
        raise SettingError(
            f"picture is {str(target)!r}, which cannot be written: give a file in a folder that exists and is yours."
        )
    progress = ConsoleProgress(quiet=quiet or as_json)
    with progress.step("import libraries"):
        from headstart.learn.compare import compare, draw_comparison
    found = compare(data, several=several, progress=progress, **settings)
    draw_comparison(found, target)
    if as_json:
        whole = {**found.to_json(), "picture": str(target), "notes": progress.notes}
        click.echo(json.dumps(whole, ensure_ascii=False))
    else:
        _show(found, target, _same_data(data, several, settings))


def _same_data(data: str, several: SeveralLabels | None, settings: dict[str, Any]) -> str:
    """Return what `fit` has to be told to split the same pictures alike and to see them alike.

    With another seed or share it would test on pictures that the choice was made with.
    """
    told = [shlex.quote(data), *([several.options] if several else [])]
    usual = {option.name: option.default for option in command.params}
    for name in ("validation_size", "test_size", "seed", "device", "precision"):
        if settings[name] != usual[name]:
            told.append(f"--{name.replace('_', '-')} {shlex.quote(str(settings[name]))}")
    return " ".join(told)


def _show(found: Comparison, picture: Path, data: str) -> None:
    """Print the comparison; `data` is what `fit` has to be told to learn from the same."""
    from headstart.cli.console import show, show_prose
    from headstart.core.text import count

    repeats = "" if found.repeats == 1 else f"{found.repeats} x "
    show("", f"{found.data}: {count(found.pictures, 'picture')}, {repeats}{found.folds}-fold cross-validation.")
    show(
        f"The {found.untouched:,} test pictures were not looked at: `headstart fit` measures on them, once."
        if found.untouched
        else "There are too few pictures for a test set: all of them were shared out."
    )
    width = _width()
    show("", _choices(found, width), "", _backbones(found), "", width=width)
    for choice, reason in found.left_out:
        show(f"left out: {choice.name}: {reason}")
    for scored in found.scored:
        if scored.tuned_folds is not None:
            show_prose(
                f"{scored.choice.name}: one repeat, in {scored.tuned_folds} of {len(scored.folds)} folds validation "
                "preferred the tuned network; its differences are on the folds that both ran on."
            )
    if found.pairs:
        pairs = f", corrected for {len(found.pairs)} pairs (Holm)" if len(found.pairs) > 1 else ""
        show_prose(
            f"p: corrected resampled t-test (Nadeau and Bengio 2003){pairs}. Below 0.05 a difference is shown; else it "
            "may be chance."
        )
    taken = found.scored[found.recommended].choice
    show_prose("", f"Recommended: {taken.name}: {found.why}.")
    if len(found.scored) > 1:
        show_prose(
            f"It was chosen among {len(found.scored)} on these figures, which are a little too good for that reason."
        )
    show("", f"Picture: {picture}", f"Next: headstart fit {data} {taken.arguments}")


def _width() -> int:
    """Return how many columns tables may take: those of the window, else enough for every figure."""
    from rich.console import Console

    console = Console()
    return min(WIDTH, console.width) if console.is_terminal else WIDTH


def _choices(found: Comparison, width: int) -> Any:
    """Return the table of the choices: in a window too narrow for it with what is said of each below its figure."""
    from rich.console import Console

    from headstart.cli.console import table

    methods = len({scored.choice.method for scored in found.scored}) > 1
    made = table("backbone", "head", *(["method"] if methods else []), found.measured, "against the best", "p#", "")
    for place, scored in enumerate(found.scored):
        choice = scored.choice
        names = [choice.backbone, choice.head, *([choice.method] if methods else [])]
        made.add_row(*names, scored.score.text, *_against_best(found, place))
    return made if Console(width=WIDTH).measure(made).maximum <= width else _narrow_choices(found)


def _narrow_choices(found: Comparison) -> Any:
    from rich.text import Text

    from headstart.cli.console import table

    made = table("choice", f"{found.measured}, and against the best")
    for place, scored in enumerate(found.scored):
        difference, p, verdict = _against_best(found, place)
        lines = [scored.score.text, *([f"{difference}, p {p}"] if p else []), verdict]
        made.add_row(scored.choice.name, Text("\n".join(lines)))
    return made


def _against_best(found: Comparison, place: int) -> tuple[str, str, str]:
    """Return the difference to the first of the table, its p, and what that means."""
    from headstart.core.significance import LEVEL

    pair = found.against_best(place)
    if pair is None:
        return "", "", "the highest"
    return pair.difference.text, f"{pair.p:.2g}", "worse" if pair.p < LEVEL else "not shown to be worse"


def _backbones(found: Comparison) -> Any:
    from headstart.cli.console import table

    made = table("backbone", "pictures/s#", "MB#", "pixels#", "licence of the weights")
    for name, facts in found.backbones.items():
        sizes = [scored.megabytes for scored in found.scored if scored.choice.backbone == name]
        if not sizes:
            continue
        size = f"{min(sizes):.1f}" + (f" to {max(sizes):.1f}" if max(sizes) >= min(sizes) + 0.1 else "")
        pixels = " x ".join(map(str, dict.fromkeys(facts.image_size)))
        made.add_row(name, f"{facts.speed.pictures_per_second:.0f}", size, pixels, facts.licence)
    return made
