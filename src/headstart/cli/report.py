"""`headstart report MODEL [FOLDER]`: the report of a model that is there already."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", required=False, type=click.Path())
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file.  [default: MODEL-report.html beside it]")
@click.option("--heat/--no-heat", default=True, show_default=True, help="Heat maps of the surest mistakes.")
def command(model: Path, folder: str | None, out: Path | None, heat: bool) -> None:
    """Write the report of MODEL again, from what its folder remembers of the test. Nothing is measured.

    FOLDER is what MODEL was fitted on: with it the test pictures are shown. Other pictures are measured, and get a
    report of their own, by `headstart evaluate MODEL DATA`.
    """
    from dataclasses import replace

    from headstart.cli.console import show
    from headstart.core import digests
    from headstart.core.artifact import read_description
    from headstart.core.errors import DataError
    from headstart.core.text import count
    from headstart.use.page import check_page, save_page
    from headstart.use.report import Finder, of_model, report

    model = model.absolute()
    out = out or model.with_name(f"{model.name}-report.html")
    check_page(out)
    description = read_description(model)
    paths: tuple[str, ...] = ()
    if folder is not None:
        from headstart.learn.dataset import read_dataset
        from headstart.learn.several import several_labels_of

        several = several_labels_of(description)
        paths = read_dataset(folder, several=several, for_training=False, collect=True).paths

    find = Finder(paths, digests.trained_on(description))
    material = of_model(model, description, find)
    if folder is not None and not any(material.said.paths):
        raise DataError(
            f"{folder} has none of the test pictures of {model.name}: name what it was fitted on, or measure it on "
            f"other pictures with `headstart evaluate {model.name} {folder}`."
        )
    if folder is not None:
        material = replace(material, why_missing=_why_missing(folder, find.ambiguous))
    save_page(report(material if heat else replace(material, heat_maps=None)), out)
    show(f"{out}: the report of {count(len(material.said.names), 'picture')}")


def _why_missing(folder: str, ambiguous: int) -> str:
    from headstart.core.text import count, shown

    if not ambiguous:
        return f"They are not in {shown(Path(folder).name or folder)}, or have changed since."
    return (
        f"Several pictures of {shown(Path(folder).name or folder)} have the name of {count(ambiguous, 'picture')} of "
        "these, and this model remembers names alone. A model that is fitted anew knows its test pictures by content."
    )
