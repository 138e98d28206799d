"""`headstart evaluate MODEL DATA`: measure a model on labelled pictures."""

from __future__ import annotations

import json

import click


@click.command("evaluate")
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--split", "part", help="Only the pictures of this split of DATA: train, validation or test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(model: str, data: str, part: str | None, seed: int, quiet: bool, as_json: bool) -> None:
    """Measure MODEL on DATA: a folder of class folders or a manifest, whose classes the model knows."""
    from headstart.cli.console import ConsoleProgress, show, table
    from headstart.cli.result import figure_table, figures
    from headstart.core.artifact import load
    from headstart.learn.evaluation import evaluate_on

    result = evaluate_on(load(model), data, part=part, seed=seed, progress=ConsoleProgress(quiet=quiet or as_json))
    evaluation = result.evaluation
    if as_json:
        aside = [{"path": path, "reason": reason} for path, reason in result.set_aside]
        whole = {"model": model, "data": data, "set_aside": aside, "seen_in_training": result.seen_in_training}
        click.echo(json.dumps({**whole, "test": figures(evaluation), **evaluation.to_json()}, ensure_ascii=False))
        return
    headline = figures(evaluation) or {}
    show(f"{model} on {evaluation.n:,} pictures of {data}, with 95 % intervals:", figure_table(headline))
    show(f"Always naming the most frequent class would give {evaluation.majority:.3f}.", "")
    classes = table("class", "pictures#", "precision#", "recall#", "most often taken for")
    for row in result.class_rows():
        classes.add_row(*row)
    show(classes)
