"""`headstart evaluate MODEL DATA`: measure a model on labelled pictures, or several against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from headstart.core.progress import Progress
    from headstart.core.slices import Slices
    from headstart.learn.evaluation import DataEvaluation
    from headstart.learn.versus import Versus

WIDTH = 140  # columns that tables may take: figures must not be cut
SHOWN_SLICES = 20


@click.command("evaluate")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL DATA | MODEL… --on DATA", type=click.Path())
@click.option("--on", type=click.Path(), help="The pictures: then all arguments are models, compared with each other.")
@click.option("--split", "part", help="Only the pictures of this split of DATA: train, validation or test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="The HTML file.  [default: MODEL-on-DATA.html beside MODEL]"
)
@click.option("--no-report", is_flag=True, help="Write none.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    arguments: tuple[str, ...],
    on: str | None,
    part: str | None,
    seed: int,
    report: Path | None,
    no_report: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure MODEL on DATA: a folder of class folders or a manifest, whose classes the model knows.

    Other columns of a manifest (camera, site, …) give figures of their parts. With --on several models are measured on
    the same pictures, and every pair of them is tested, without a report.
    """
    from headstart.cli.console import ConsoleProgress

    if on is None and len(arguments) != 2:
        raise click.UsageError("give MODEL DATA, or MODEL MODEL … --on DATA.")
    models, data = (arguments, on) if on is not None else (arguments[:1], arguments[1])
    if report is not None and (no_report or len(models) > 1):
        raise click.UsageError("--report is for one model, without --no-report.")
    progress = ConsoleProgress(quiet=quiet or as_json)
    if len(models) > 1:
        _compare(models, data, part, seed, progress, as_json)
    else:
        page = None if no_report else report or _beside(models[0], data)
        _evaluate(models[0], data, part, seed, page, progress, as_json, asked=report is not None)


def _beside(model: str, data: str) -> Path:
    """Return where the report goes: beside the model's folder, which stays as it is."""
    folder = Path(model).absolute()
    return folder.with_name(f"{folder.name}-on-{Path(data).absolute().stem}.html")


def _evaluate(
    model: str,
    data: str,
    part: str | None,
    seed: int,
    page: Path | None,
    progress: Progress,
    as_json: bool,
    *,
    asked: bool,
) -> None:
    from headstart.cli.console import show
    from headstart.cli.result import figures
    from headstart.core.artifact import load
    from headstart.face import evaluate_on

    predictor = load(model)
    if not asked and "data" not in predictor.description:
        page = None  # of a network that was not made by `fit` there is no report
    result = evaluate_on(predictor, data, part=part, seed=seed, page=page, progress=progress)
    if not as_json:
        _show(model, data, result)
        if page is not None:
            show("", f"report: {page}")
        return
    evaluation = result.evaluation
    aside = [{"path": path, "reason": reason} for path, reason in result.set_aside]
    whole = {"model": model, "data": data, "set_aside": aside, "seen_in_training": result.seen_in_training}
    whole["report"] = None if page is None else str(page)
    parts = None if result.slices is None else result.slices.to_json()
    click.echo(
        json.dumps({**whole, "test": figures(evaluation), **evaluation.to_json(), "slices": parts}, ensure_ascii=False)
    )


def _show(model: str, data: str, result: DataEvaluation) -> None:
    from headstart.cli.console import show, table
    from headstart.cli.result import baseline, figure_table, figures
    from headstart.core.sentences import groups_sentence, pictures

    evaluation = result.evaluation
    headline = figures(evaluation) or {}
    many = pictures(evaluation.n, evaluation.units)
    show(f"{model} on {many} of {data}, with 95 % intervals:", figure_table(headline))
    show(*filter(None, (groups_sentence(evaluation), baseline(headline))), "")
    last = "average precision, at threshold" if evaluation.several_labels else "most often taken for"
    classes = table("class", "pictures#", "precision#", "recall#", last)
    for row in result.class_rows():
        classes.add_row(*row)
    show(classes, width=WIDTH)
    if result.slices is not None:
        _show_slices(result.slices)


def _show_slices(found: Slices) -> None:
    from headstart.cli.console import show, table
    from headstart.cli.result import NAMES

    titles = [NAMES[name] for name in found.rows[0].figures] if found.rows else []
    grouped = any(row.units is not None and row.units < row.n for row in found.rows)
    made = table("slice", "pictures#", *(["groups#"] if grouped else []), *(f"{title}#" for title in titles), "p#")
    for row in found.rows[:SHOWN_SLICES]:
        cells = [figure.text for figure in row.figures.values()]
        groups = [f"{row.units:,}"] if grouped else []
        made.add_row(f"{row.column}={row.value}", f"{row.n:,}", *groups, *cells, f"{row.p:.2g}")
    if found.rows:
        show("", "By the other columns of the data, the least accurate first:", made, width=WIDTH)
    if len(found.rows) > SHOWN_SLICES:
        show(f"{len(found.rows) - SHOWN_SLICES} more accurate slices are in --json.")
    show(*found.notes())


def _compare(
    models: tuple[str, ...], data: str, part: str | None, seed: int, progress: Progress, as_json: bool
) -> None:
    from headstart.core.artifact import load
    from headstart.learn.versus import compare_models

    twice = next((model for model in models if models.count(model) > 1), None)
    if twice is not None:
        raise click.UsageError(f"{twice} is given twice: name different models.")
    found = compare_models({model: load(model) for model in models}, data, part=part, seed=seed, progress=progress)
    if as_json:
        click.echo(json.dumps({"data": data, **found.to_json()}, ensure_ascii=False))
    else:
        _show_versus(found, data)


def _show_versus(found: Versus, data: str) -> None:
    from headstart.cli.console import show, table
    from headstart.core.sentences import pictures

    first = next(iter(found.evaluations.values())).evaluation
    several = first.several_labels
    titles = ("all labels right#", "mean average precision#") if several else ("accuracy#", "log loss#")
    shown = ("exact_match", "mean_average_precision") if several else ("accuracy", "log_loss")
    made: Any = table("model", *titles, "against the best#", "p#", "trained on#")
    for name, one in found.evaluations.items():
        duel, figures = found.against_best(name), one.evaluation.figures
        cells = ["", ""]
        if duel is not None:
            cells = [f"{duel.difference:+.3f} ({duel.low:+.3f} to {duel.high:+.3f})", f"{duel.p:.2g}"]
        made.add_row(name, *(figures[key].text for key in shown), *cells, f"{one.seen_in_training:,}")
    show(f"{pictures(first.n, first.units)} of {data}, with 95 % intervals:", made, "", width=WIDTH)
    for name in list(found.evaluations)[1:]:
        duel = found.against_best(name)
        show(duel.sentence() if duel is not None else "")
    right = "has all labels right" if several else "names right"
    kept = "" if first.units in (None, first.n) else ", pictures that belong together counted as one"
    show("", f"p: McNemar's exact test on the pictures that one of the two alone {right}{kept}{_many(found)}.")
    if any(one.seen_in_training for one in found.evaluations.values()):
        show("Pictures that a model was trained on flatter it: compare on pictures that none of them has seen.")


def _many(found: Versus) -> str:
    return f", corrected for {len(found.duels)} pairs (Holm)" if len(found.duels) > 1 else ""
