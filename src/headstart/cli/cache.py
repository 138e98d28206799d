"""`headstart cache`: what is cached, how big it is, and clearing it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from headstart.learn.cache import StoredSpace


@click.command("cache")
@click.option("--clear", is_flag=True, help="Delete cached features, graphs and records; they can be made again.")
@click.option("--runs", is_flag=True, help="With --clear: delete checkpoints of interrupted fine-tuning too.")
@click.option("--older-than", type=click.FloatRange(min=0), default=0.0, help="With --clear: unused for so many days.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(clear: bool, runs: bool, older_than: float, as_json: bool) -> None:
    """Show the cache: HEADSTART_CACHE says where it is, HEADSTART_CACHE_LIMIT (such as 20G) how big it may be.

    Checkpoints of fine-tuning go when their model is saved, or after 30 days; those of a run that is alive are never
    deleted.
    """
    from headstart.cli.console import show, size
    from headstart.core import settings
    from headstart.learn import cache
    from headstart.learn.runs import clear_runs, list_runs

    if (runs or older_than) and not clear:
        raise click.UsageError("--runs and --older-than say what --clear deletes: give it too.")
    freed = (cache.clear(older_than) if clear else 0) + (clear_runs(older_than) if runs else 0)
    spaces, kept, others = cache.list_spaces(), list_runs(), cache.other_sizes()
    total = sum(space.size for space in spaces) + sum(run.size for run in kept) + sum(others.values())
    where, limit = str(settings.cache_folder()), settings.cache_limit()
    if as_json:
        features = [{**space.about, "entries": space.entries, "bytes": space.size} for space in spaces]
        told = [{**run.about, "run": run.folder.name, "bytes": run.size, "alive": run.alive} for run in kept]
        about = {"folder": where, "limit": limit, "bytes": total, "freed": freed}
        click.echo(json.dumps({**about, "features": features, "runs": told, "others": others}))
        return
    if clear:
        show(f"freed {size(freed)}")
    show(f"{where}: {size(total)}; the limit is {size(limit)}")
    if spaces:
        show("", _features(spaces))
    if kept:
        show("", _runs(kept))
        show("`headstart fit` with the same command and --resume goes on; --clear --runs deletes what is not running.")
    if rest := [f"{name} {size(one)}" for name, one in others.items() if one]:
        show("", f"besides: {', '.join(rest)}")


def _features(spaces: list[StoredSpace]) -> Any:
    from headstart.cli.console import size, table

    more = differences([space.about for space in spaces])
    made = table("backbone", "features#", "precision", "cut", *more, "entries#", "size#", "last used")
    made.columns[0].no_wrap = True  # a name that is cut names nothing
    for row, space in enumerate(spaces):
        about = space.about
        cells = (about["backbone"], about["features"], about["precision"], about.get("cut") or "")
        parts = (values[row] for values in more.values())
        made.add_row(*cells, *parts, f"{space.entries:,}", size(space.size), _when(space.last_used))
    return made


def _runs(kept: list[Any]) -> Any:
    from headstart.cli.console import size, table
    from headstart.learn.runs import describe

    made = table("fine-tuning", "", "size#", "last checkpoint")
    for run in kept:
        made.add_row(describe(run), "running" if run.alive else "interrupted", size(run.size), _when(run.last_used))
    return made


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def differences(abouts: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return by heading, with a text for each, in what features differ whose rows would else look alike."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row, about in enumerate(abouts):
        shown = tuple(about.get(name) for name in ("backbone", "features", "precision", "cut"))
        alike.setdefault(shown, []).append(row)
    told = [_details(about) for about in abouts]
    return {
        heading: [details[heading] for details in told]
        for heading in (told[0] if told else ())
        if any(len({told[row][heading] for row in rows}) > 1 for rows in alike.values())
    }


def _details(about: dict[str, Any]) -> dict[str, str]:
    seen = about.get("preprocessing") or {}
    return {
        "pixels": " x ".join(map(str, dict.fromkeys(seen.get("image_size", ())))),
        "fit": str(seen.get("fit", "")),
        "crop": str(seen.get("crop_fraction", "")),
        "grey": str(seen.get("pad_value", "")),
        "pooling": str(about.get("pooling", "")),
        "weights": str(about.get("weights", ""))[-8:],
        "version": str(about.get("version", "")),
    }
