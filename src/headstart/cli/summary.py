"""`headstart summary MODEL|BACKBONE`: a network group by group, as Keras's `model.summary()`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.cli.options import layers, side_or_sides

if TYPE_CHECKING:
    from headstart.networks import Row


@click.command("summary")
@click.argument("network", metavar="MODEL|BACKBONE")
@click.option("--unfreeze", callback=layers, help="Show what fine-tuning would train: a stage, all, or N layers.")
@click.option("--image-size", callback=side_or_sides, help="Side, or height,width, in pixels, of a BACKBONE.")
@click.option("--pooling", help="avg, max or flatten, of a BACKBONE.  [default: the backbone's]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    network: str,
    unfreeze: Any,
    image_size: int | tuple[int, int] | None,
    pooling: str | None,
    as_json: bool,
) -> None:
    """Show groups, output shapes and parameters of a MODEL folder or of a BACKBONE, trainable or frozen.

    A BACKBONE is shown without its weights, so nothing is downloaded. Shapes are (height, width) last, without the
    batch: (channels, height, width).
    """
    from headstart.cli.console import show, table

    if (Path(network) / "model.json").is_file():
        if image_size is not None or pooling is not None:
            raise click.UsageError("--image-size and --pooling belong to a BACKBONE; a MODEL has its own.")
        rows, moved = _of_model(Path(network), unfreeze)
    else:
        rows, moved = _of_backbone(network, unfreeze, image_size, pooling), {}
    total, trainable = sum(row.parameters for row in rows), sum(row.trainable for row in rows)
    if as_json:
        listed = [
            {"group": row.group, "output_shape": list(row.output_shape), "parameters": row.parameters}
            | {"trainable": row.trainable, **({"moved": moved[row.group]} if row.group in moved else {})}
            for row in rows
        ]
        result = {"network": network, "groups": listed, "parameters": total, "trainable": trainable}
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    made = table("group", "output shape", "parameters#", "state", *(["moved#"] if moved else []))
    for row in rows:
        far = [] if not moved else [f"{100 * moved[row.group]:.2f} %" if row.group in moved else ""]
        made.add_row(row.group, str(row.output_shape), f"{row.parameters:,}", _state(row), *far)
    show(made, "", f"Total params: {total:,}", f"Trainable params: {trainable:,}")
    show(f"Non-trainable params: {total - trainable:,}")


def _state(row: Row) -> str:
    if row.parameters == 0:
        return ""
    return (
        "trainable"
        if row.trainable == row.parameters
        else f"{row.trainable:,} trainable"
        if row.trainable
        else "frozen"
    )


def _of_backbone(
    name: str, unfreeze: Any, image_size: int | tuple[int, int] | None, pooling: str | None
) -> tuple[Row, ...]:
    from headstart.learn.finetune.unfreezing import apply_phase, plan
    from headstart.networks import freeze, load_backbone, summary

    backbone = load_backbone(name, image_size=image_size, pooling=pooling, blank=True)
    freeze(backbone.network)
    if unfreeze is not None:
        # Of a gradual schedule all that learns in some phase.
        apply_phase(backbone, plan(backbone, unfreeze).everything(), batch_norm="frozen")
    return summary(backbone)


def _of_model(folder: Path, unfreeze: Any) -> tuple[tuple[Row, ...], dict[str, float]]:
    """Return the rows of a saved model, its head the last, and how far fine-tuning moved each stage."""
    from headstart.core import artifact
    from headstart.core.errors import ModelError
    from headstart.networks import Row

    said = artifact.read_description(folder)
    try:
        backbone, tuned = said["backbone"], said.get("finetuning") or {}
        kept = bool((tuned.get("gain") or {}).get("kept"))
        if unfreeze is None and kept:
            unfreeze = said["head"]["chosen"]["unfreeze"]
        moved = {row["stage"]: float(row["moved"]) for row in tuned.get("moved") or ()} if kept else {}
        size = said["preprocessing"]["image_size"]
        pooling = backbone["pooling"] if backbone["pooling"] != "own" else None
        rows = _of_backbone(backbone["name"], unfreeze, (size[0], size[1]), pooling)
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / artifact.DESCRIPTION} does not say {error}: fit the model again.") from error
    weights = artifact.verify_file(folder, artifact.WEIGHTS, said)
    count = _head_parameters(weights)
    return (*rows, Row("head", (len(said["classes"]),), count, count)), moved


def _head_parameters(weights: Path) -> int:
    """Return how many numbers the head's tensors have; only the file's header is read."""
    from math import prod

    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys() if name.startswith("head."))  # noqa: SIM118
