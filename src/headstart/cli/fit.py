"""`headstart fit FOLDER`: learn, test once, write the model folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from headstart.cli.meanings import Trains
from headstart.cli.options import (
    layers,
    named_numbers,
    named_values,
    names,
    policy_or_settings,
    side_or_sides,
    whole_numbers,
)
from headstart.core.errors import SettingError
from headstart.learn import other_names
from headstart.learn.given import DEFAULT_AUGMENTATION, overlay
from headstart.learn.other_names import unknown_setting
from headstart.learn.shares import TEST_SIZE, VALIDATION_SIZE
from headstart.networks import catalog

# Options that are not parameters of `ImageClassifier`.
OWN = ("data", "out", "recipe", "config", "resume", "log", "report", "quiet", "as_json")


def parameters(ctx: click.Context) -> dict[str, Any]:
    """Return the parameters of `ImageClassifier` that were given: by the recipe, over it the file, over it the options.

    What was given nowhere is left to the constructor, and what is over it may make a recipe's setting useless, which
    then falls away. `training` changes single settings of the one below; other tables are one value.

    Args:
        ctx: Of `fit`, or of a command with `--recipe`, `--config` and others of its options.

    Raises:
        SettingError: A file cannot be read, or a name in it is no parameter.
        click.BadParameter: A value in a file is of the wrong kind.
    """
    found: dict[str, Any] = {}
    if ctx.params["recipe"]:
        from headstart.learn.recipes import load_recipe

        recipe = load_recipe(ctx.params["recipe"])
        found = _from_file(ctx, recipe.parameters, f"recipe {recipe.name}")
    if ctx.params["config"]:
        found = overlay(found, _from_file(ctx, _read_toml(ctx.params["config"]), ctx.params["config"]))
    given = {
        name: value
        for name, value in ctx.params.items()
        if name in _options() and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return overlay(found, given)


def _options() -> dict[str | None, click.Parameter]:
    """Return the options of `fit` that are parameters of `ImageClassifier`, by name."""
    return {option.name: option for option in command.params if option.name not in OWN}


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(
            f"{path} cannot be used as a config: {reason}. Give a TOML file such as `seed = 1`."
        ) from None


def _from_file(ctx: click.Context, values: dict[str, Any], where: str) -> dict[str, Any]:
    """Check names and kinds of a file's values by the options of the same names."""
    options = _options()
    for name in values:
        if name not in options:
            raise unknown_setting(f"setting in {where}", name, map(str, options), other_names.TRAINING)
    try:
        return {name: _checked(ctx, options[name], value) for name, value in values.items()}
    except click.BadParameter as error:
        told = f"{error.message.rstrip('.')} (in {where})."
        raise click.BadParameter(told, error.ctx, error.param, error.param_hint) from None


def _checked(ctx: click.Context, option: click.Parameter, value: Any) -> Any:
    if not isinstance(value, (list, dict)):
        return option.process_value(ctx, value)
    kinds = {
        named_numbers: dict,
        policy_or_settings: dict,
        named_values: dict,
        layers: list,
        whole_numbers: list,
        side_or_sides: list,
        names: list,
    }
    read: Callable[..., Any] | None = option.callback
    if read is None or not isinstance(value, kinds[read]):
        raise click.BadParameter(f"{value!r} is a {'list' if isinstance(value, list) else 'table'}", ctx, option)
    return read(ctx, option, value)


@click.command("fit", cls=Trains)
@click.argument("data", type=click.Path())
@click.option("--out", type=click.Path(), help="Folder for the model.  [default: NAME-model]")
@click.option("--recipe", help="A tutorial by name; `headstart recipes` lists them. Other options change it.")
@click.option("--config", type=click.Path(), help="TOML file with these settings, as in a recipe.")
@click.option("--backbone", default=catalog.DEFAULT, show_default=True, help="See `headstart models`.")
@click.option("--method", default="auto", show_default=True, help="frozen, finetune, or auto: what validation prefers.")
@click.option("--head", default="linear", show_default=True, help="linear, mlp or prototype.")
@click.option("--hidden", callback=whole_numbers, help="Hidden sizes of the mlp.  [default: 256]")
@click.option("--dropout", type=float, help="Dropout of the mlp.  [default: 0.5]")
@click.option("--epochs", type=int, help="Of the mlp; with another head, of fine-tuning.  [default: 10; by size]")
@click.option("--batch-size", type=int, help="Of the same.  [default: 32]")
@click.option("--learning-rate", type=float, help="Of the same.  [default: 0.001]")
@click.option(
    "--patience", type=int, help="Of the same: epochs without a better one before it stops.  [default: never]"
)
@click.option("--output", default="softmax", show_default=True, help="softmax, sigmoid, or multilabel: several labels.")
@click.option(
    "--label-columns", "--labels", callback=names, help="multilabel: columns of 0 and 1.  [default: label:NAME]"
)
@click.option("--label-separator", default=";", show_default=True, help="multilabel: between names in column label.")
@click.option("--image-size", callback=side_or_sides, help="Side, or height,width, in pixels.")
@click.option("--pooling", help="avg, max or flatten.  [default: the backbone's]")
@click.option("--fit-mode", default="crop", show_default=True, help="crop, pad (letterbox) or squash.")
@click.option("--views", type=int, help="Views a picture, all but one augmented.  [default: 4 with --augmentation]")
@click.option(
    "--augmentation",
    callback=policy_or_settings,
    help=f"A policy, settings as NAME=NUMBER,…, or both: see below.  [default: {DEFAULT_AUGMENTATION}]",
)
@click.option(
    "--unfreeze",
    callback=layers,
    help="Fine-tune a stage and above, all, head (alone), the last N layers, or STAGE=EPOCHS,…",
)
@click.option("--training", callback=named_values, help="Settings of fine-tuning: NAME=VALUE,… such as epochs=10.")
@click.option("--budget", help="Time that fine-tuning may take, such as 10m.  [default: 2m for auto]")
@click.option("--class-weight", callback=named_numbers, help="balanced, or NAME=NUMBER,…")
@click.option("--weights", type=click.Path(), help="A file with the backbone's weights.")
@click.option("--validation-size", type=float, default=VALIDATION_SIZE, show_default=True, help="Share for choosing.")
@click.option("--test-size", type=float, default=TEST_SIZE, show_default=True, help="Share for the final figure.")
@click.option("--coverage", type=float, default=0.95, show_default=True, help="Of the prediction sets.")
@click.option("--false-alarm-rate", type=float, default=0.05, show_default=True, help="Of calling a picture unknown.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or bfloat16, of the features.")
@click.option("--resume", is_flag=True, help="Continue the fine-tuning that the same command began.")
@click.option("--log", help="Log epochs: tensorboard:FOLDER, mlflow or mlflow:EXPERIMENT.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html into the model folder.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: str,
    out: str | None,
    resume: bool,
    log: str | None,
    report: bool,
    quiet: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """Learn a classifier from DATA: a folder of class folders, or a CSV or Parquet manifest.

    The model folder holds model.onnx, weights.safetensors and model.json. Test pictures are touched once.
    """
    from headstart.cli.console import ConsoleProgress
    from headstart.cli.result import show_fit, summary

    given = parameters(ctx)
    progress = ConsoleProgress(quiet=quiet or as_json)
    target = out or f"{Path(data).resolve().stem}-model"
    with progress.step("import libraries"):
        from headstart.classifier import ImageClassifier
        from headstart.learn.loggers import make_logger
        from headstart.use.report import finish as write_report
    logger = make_logger(log) if log else None
    classifier = ImageClassifier(**given)
    finish = write_report if report else None
    classifier.fit(data, out=target, resume=resume, progress=progress, on_epoch=logger, finish=finish)
    result = summary(classifier, target)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        show_fit(result)
