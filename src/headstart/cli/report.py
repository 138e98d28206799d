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
    from headstart.cli.console import show
    from headstart.core.text import count
    from headstart.face import report

    done = report(model, folder, out=out, heat=heat)
    show(f"{done.file}: the report of {count(done.pictures, 'picture')}")
