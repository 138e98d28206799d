"""`headstart summary MODEL|BACKBONE`: a network group by group, as Keras's `model.summary()`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.cli.options import layers, side_or_sides

if TYPE_CHECKING:
    from headstart.networks import Row


@click.command("summary")
@click.argument("network", metavar="MODEL|BACKBONE")
@click.option(
    "--unfreeze",
    callback=layers,
    help="Show what fine-tuning would train: a stage and above, all, head, the last N layers, or STAGE=EPOCHS,…",
)
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
    from headstart.learn.finetune.outline import of_backbone, of_model

    if (Path(network) / "model.json").is_file():
        if image_size is not None or pooling is not None:
            raise click.UsageError("--image-size and --pooling belong to a BACKBONE; a MODEL has its own.")
        found = of_model(Path(network), unfreeze)
    else:
        found = of_backbone(network, unfreeze, image_size=image_size, pooling=pooling)
    rows, moved = found.rows, found.moved
    totals = {name: sum(getattr(row, name) for row in rows) for name in ("parameters", "trainable", "statistics")}
    if as_json:
        listed = [{**asdict(row), **({"moved": moved[row.group]} if row.group in moved else {})} for row in rows]
        click.echo(json.dumps({"network": network, "groups": listed, **totals}, ensure_ascii=False))
    else:
        _show(rows, moved, **totals)


def _show(rows: Sequence[Row], moved: dict[str, float], *, parameters: int, trainable: int, statistics: int) -> None:
    from headstart.cli.console import show, size, table

    made = table("group", "layers", "output shape", "parameters#", "state", *(["moved#"] if moved else []))
    for row in rows:
        far = [] if not moved else [f"{100 * moved[row.group]:.2f} %" if row.group in moved else ""]
        made.add_row(row.group, row.layers, str(row.output_shape), f"{row.parameters:,}", _state(row), *far)
    show(made, "", f"Total params: {parameters:,} ({size(4 * parameters)} in float32)")
    show(f"Trainable params: {trainable:,}", f"Non-trainable params: {parameters - trainable:,}")
    if statistics:
        show(f"BatchNorm statistics: {statistics:,} more, which Keras counts as non-trainable params")
    if "head" in moved and rows[-1].group != "head":
        show(f"The layers of the head together moved by {100 * moved['head']:.2f} %.")


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
