"""`headstart check DATA`: what is wrong with labelled pictures, before anything is learned."""

from __future__ import annotations

import json

import click


@click.command("check")
@click.argument("data", type=click.Path())
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split that is shown.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(data: str, seed: int, quiet: bool, as_json: bool) -> None:
    """Say what is wrong with DATA, a folder of class folders or a manifest; nothing is learned or written.

    Ends with code 2 when nothing could be learned from it.
    """
    from headstart.cli.console import ConsoleProgress, show, table
    from headstart.learn.prepare import prepare

    progress = ConsoleProgress(quiet=quiet or as_json)
    prepared = prepare(data, seed=seed, progress=progress)
    result = prepared.report()
    if as_json:
        click.echo(json.dumps({**result, "notes": progress.notes}, ensure_ascii=False))
        return
    made = table("class", *(f"{part}#" for part in result["counts"]))
    for name, counts in result["classes"].items():
        made.add_row(name, *(f"{count:,}" for count in counts.values()))
    show(made, "")
    for aside in result["set_aside"]:
        show(f"set aside: {aside['path']}: {aside['reason']}")
    for kind, count in result["skipped"].items():
        show(f"skipped: {count:,} {kind}")
    for kind, count in result["kept_together"].items():
        if count:
            show(f"kept on one side of the split: {count:,} {kind}")
    if prepared.cross_validate:
        show("A class has under 20 pictures: `fit` will measure by repeated cross-validation.")
