"""`headstart models`: which pretrained backbones there are, and which are usable now."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def command(as_json: bool) -> None:
    """List the recommended backbones; any other timm model works by its name too."""
    from headstart.cli.console import show, table
    from headstart.networks.catalog import list_models

    rows = list_models()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        return
    made = table("backbone", "now", "pixels#", "M params#", "GMACs#", "licence", "good for")
    for row in rows:
        entry = row.entry
        state = row.source if row.usable else f"download {entry.download_mb:.0f} MB"
        made.add_row(
            entry.name,
            state,
            str(entry.image_size),
            f"{entry.parameters:.1f}",
            f"{entry.gmacs:.2f}",
            entry.licence,
            entry.good_for,
        )
    show(made)
