"""`headstart cache`: where cached features live, how big they are, and clearing them."""

from __future__ import annotations

import json
import time

import click


@click.command("cache")
@click.option("--clear", is_flag=True, help="Delete cached features, graphs and records; they can be made again.")
@click.option("--older-than", type=click.FloatRange(min=0), default=0.0, help="With --clear: unused for so many days.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(clear: bool, older_than: float, as_json: bool) -> None:
    """Show the cache: HEADSTART_CACHE says where it is, HEADSTART_CACHE_LIMIT (such as 20G) how big it may be."""
    from headstart.cli.console import show, size, table
    from headstart.core import settings
    from headstart.learn.features import store

    freed = store.clear(older_than) if clear else 0
    spaces = store.list_spaces()
    total = sum(space.size for space in spaces)
    where, limit = str(settings.cache_folder()), settings.cache_limit()
    if as_json:
        rows = [{**space.about, "entries": space.entries, "bytes": space.size} for space in spaces]
        click.echo(json.dumps({"folder": where, "limit": limit, "bytes": total, "freed": freed, "features": rows}))
        return
    if clear:
        show(f"freed {size(freed)}")
    made = table("backbone", "features#", "precision", "cut", "entries#", "size#", "last used")
    made.columns[0].no_wrap = True  # a name that is cut names nothing
    for space in spaces:
        about = space.about
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(space.last_used))
        cells = (about["backbone"], about["features"], about["precision"], about.get("cut") or "")
        made.add_row(*cells, f"{space.entries:,}", size(space.size), used)
    show(f"{where}: {size(total)} of features; the limit is {size(limit)}", made)
