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
    from headstart.learn.finetune.outline import of_backbone, of_model

    if (Path(network) / "model.json").is_file():
        if image_size is not None or pooling is not None:
            raise click.UsageError("--image-size and --pooling belong to a BACKBONE; a MODEL has its own.")
        found = of_model(Path(network), unfreeze)
    else:
        found = of_backbone(network, unfreeze, image_size=image_size, pooling=pooling)
    rows, moved, total, trainable = found.rows, found.moved, found.parameters, found.trainable
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
