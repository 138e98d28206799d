"""`headstart predict MODEL PICTURE…`: name what is in pictures, without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import click

from headstart.core.errors import ImageError

if TYPE_CHECKING:
    from headstart.core.predictor import Prediction, Predictor


@click.command("predict")
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] PICTURE…")
@click.option("--backbone", help="Use this backbone's own ImageNet classes instead of a MODEL.")
@click.option("--weights", type=click.Path(), help="With --backbone: a file with its weights.")
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="How many classes to show.")
@click.option("--json", "style", flag_value="json", help="One JSON object a picture.")
@click.option("--csv", "style", flag_value="csv", help="Comma-separated values.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="float32 gives the same answer everywhere.",
)
@click.option("--watch", is_flag=True, help="Label what a FOLDER holds and what comes into it; needs --out.")
@click.option("--out", type=click.Path(), help="With --watch: append to this file, .csv or JSON lines.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.pass_context
def command(
    context: click.Context,
    arguments: tuple[str, ...],
    backbone: str | None,
    weights: str | None,
    top: int,
    style: str | None,
    precision: str,
    watch: bool,
    out: str | None,
    quiet: bool,
) -> None:
    """Name what is in pictures: files, folders, globs, or - for standard input (a picture, or one path a line).

    A picture that cannot be read is said and the others go on; the exit code is then 1.
    """
    names = arguments if backbone is not None else arguments[1:]
    if not names:
        raise click.UsageError("no picture given: name files, folders, globs, or - for standard input.")
    watching = watch or out is not None
    if watching:
        top_given = context.get_parameter_source("top") is not click.core.ParameterSource.DEFAULT
        _check_watch(names, out if watch else None, style, top_given, of_thousand=backbone is not None)
    predictor = _predictor(arguments[0] if backbone is None else None, backbone, weights)
    predictor.precision = "bfloat16" if precision == "bfloat16" else "float32"
    if watching:
        _watch(predictor, names[0], top, str(out), quiet)
        return
    from headstart.cli.predictions import write
    from headstart.core.pictures import expand

    pictures = list(chain.from_iterable(_standard_input() if name == "-" else expand([name]) for name in names))
    if not pictures:
        raise ImageError(f"{' '.join(names)}: no picture found. Name files or folders that hold pictures.")
    predictions = predictor.stream(pictures, many=len(pictures) > 1)
    if not quiet and not sys.stdout.isatty():  # else the answers themselves are the progress
        predictions = _counted(predictions, len(pictures))
    if write(predictions, predictor, top, style):
        sys.exit(1)


def _counted(predictions: Iterable[Prediction], total: int) -> Iterator[Prediction]:
    """Pass predictions on, drawing progress on a terminal's standard error."""
    from headstart.cli.console import ConsoleProgress

    with ConsoleProgress(quiet=not sys.stderr.isatty()).step("predict", total) as advance:
        for count, prediction in enumerate(predictions, 1):
            advance(count)
            yield prediction


def _predictor(model: str | None, backbone: str | None, weights: str | None) -> Predictor:
    if model is not None:
        from headstart.core.artifact import load

        return load(model)
    from headstart.learn.imagenet import imagenet_predictor

    return imagenet_predictor(str(backbone), weights=weights)


def _check_watch(
    names: tuple[str, ...], out: str | None, style: str | None, top_given: bool, *, of_thousand: bool
) -> None:
    """Refuse what does not go with a watch, rather than to write something else than was asked for."""
    from pathlib import Path

    from headstart.use.watch import is_csv

    if out is None or len(names) != 1:
        raise click.UsageError(
            "--watch takes one FOLDER and --out FILE: predict MODEL FOLDER --watch --out labels.csv."
        )
    written = "csv" if is_csv(Path(out)) else "json"
    if style not in (None, written):
        raise click.UsageError(
            f"--{style} and --out {out} do not go together: --watch writes a table to a file that ends in .csv, and "
            "JSON lines to any other."
        )
    if top_given and not (of_thousand and written == "json"):
        every = "the likeliest class" if written == "csv" else "every class"
        raise click.UsageError(f"--top is for what is printed: with --watch a line has {every}. Leave it out.")


def _watch(predictor: Predictor, folder: str, top: int, out: str, quiet: bool) -> None:
    """Watch one folder until SIGTERM or Ctrl-C."""
    import signal
    import threading
    from pathlib import Path

    from headstart.use.watch import watch

    stop = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda number, frame: stop.set())
    if not quiet:
        click.echo(f"watching {folder}, appending to {out}  (stop with Ctrl-C)", err=True)
    few = top if "class_names" in predictor.description else None
    count = watch(predictor, Path(folder), Path(out), stop=stop, top=few)
    if not quiet:
        click.echo(f"{count} pictures labelled", err=True)


def _standard_input() -> Iterator[bytes | str]:
    """Yield the picture that standard input holds, or the paths that it lists."""
    from headstart.core.images import MAX_BYTES, inspect

    data = sys.stdin.buffer.read(MAX_BYTES)
    try:
        inspect(data)
    except ImageError:
        if b"\0" in data:  # no list of paths, so a picture that is damaged
            yield data
            return
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        yield from (line.rstrip("\r") for line in lines if line.strip())
    else:
        yield data
