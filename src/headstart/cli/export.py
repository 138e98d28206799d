"""`headstart export MODEL --to FORMAT`: the model for another runtime, proved on pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from headstart.use.exporters.contract import Number
    from headstart.use.exporters.write import Export


@click.command("export")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--to", "form", required=True, help="onnx, openvino, torch, litert or bundle (runs by itself).")
@click.option("--fp16", "number", flag_value="float16", help="Keep the weights in 16 bits: half the size.")
@click.option("--int8", "number", flag_value="int8", help="Quantise to 8 bits, calibrated and measured on --data.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: MODEL-FORMAT]")
@click.option("--data", type=click.Path(), help="Pictures to prove it on; for --int8 those the model was fitted on.")
@click.option("--max-loss", type=click.FloatRange(0, 1), help="Most accuracy that --int8 may lose.  [default: 0.01]")
@click.option("--force", is_flag=True, help="Write --int8 even if it loses more.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    model: Path,
    form: str,
    number: Number | None,
    out: Path | None,
    data: str | None,
    max_loss: float | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write MODEL for another runtime, with its classes and preprocessing inside.

    The export is compared with the model on pictures (--data, else generated ones) and on odd ones (grey, CMYK, EXIF,
    16 bits, 1 pixel, huge, …). Where the two differ, the pictures are listed and nothing is written.
    """
    from headstart.cli.console import ConsoleProgress
    from headstart.face import export

    done = export(
        model,
        form,
        out=out,
        number=number or "float32",
        data=data,
        max_loss=max_loss,
        force=force,
        progress=ConsoleProgress(quiet=quiet or as_json),
    )
    if as_json:
        click.echo(json.dumps(done.to_json(), ensure_ascii=False))
    else:
        _show(done)


def _show(done: Export) -> None:
    from headstart.cli.console import show, size, table

    proof = done.proof
    kind = "generated pictures" if done.generated else "pictures"
    changed = [
        f"{what} changed on {count}"
        for what, count in (("the prediction set", proof.sets_changed), ("unknown or not", proof.unknown_changed))
        if count is not None
    ]
    lines: list[Any] = [
        f"{done.folder}: {done.form} in {done.number}, {size(done.size)}",
        f"Proved in {proof.engine} on {proof.ordinary} {kind} and {proof.odd} odd ones: the same label on "
        + ", ".join([f"{proof.same_label} of {proof.ordinary + proof.odd}", *changed])
        + f", probabilities within {proof.largest:.2g}",
    ]
    if done.generated:
        lines.append("Name pictures of your own with --data to prove it on those.")
    if done.accuracy is not None:
        cost = done.accuracy
        made = table("", "before#", "after#")
        made.add_row(
            f"accuracy on {cost.n:,} {cost.measured_on}",
            *(f"{f.value:.4f} ({f.low:.3f} to {f.high:.3f})" for f in (cost.before, cost.after)),
        )
        made.add_row("pictures/s, network alone", *(f"{speed:,.0f}" for speed in cost.speed))
        made.add_row("size", *(size(number) for number in cost.size))
        lines += [made, f"Change of accuracy {cost.change:+.4f}; McNemar's exact test: p = {cost.p:.2g}"]
    if done.form in ("onnx", "openvino"):
        lines.append(f"Next: headstart predict {done.folder} PICTURE…")
    if done.form == "bundle":
        lines.append(f"Also as {done.folder}.zip. Next: python {done.folder}/predict.py PICTURE…")
    show(*lines)
