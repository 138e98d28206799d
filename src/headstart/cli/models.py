"""`headstart models`: which pretrained backbones there are, and which are usable now."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def command(as_json: bool) -> None:
    """List the recommended backbones; any other timm model works by its name too."""
    from rich.text import Text

    from headstart.cli.console import show, show_prose, table
    from headstart.networks.catalog import list_models

    rows = list_models()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        return
    made = table("backbone", "now", "pixels#", "M params#", "GMACs#")
    for row in rows:
        entry = row.entry
        state = "usable" if row.usable else f"{entry.download_mb:.0f} MB away"
        size = (str(entry.image_size), f"{entry.parameters:.1f}", f"{entry.gmacs:.2f}")
        made.add_row(Text(entry.name, no_wrap=True), Text(state, no_wrap=True), *size)
    show(made, "")
    for row in rows:
        show_prose(f"{row.entry.name}: {row.entry.good_for} {row.entry.licence}; {row.source}.")
