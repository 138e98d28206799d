"""`curves.png`: the main figure and the loss by epoch, training solid, validation dashed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS = (
    ("accuracy", "Accuracy"),
    ("weighted_accuracy", "Weighted accuracy"),
    ("mean_average_precision", "Mean average precision"),
    ("loss", "Loss"),
)
# Blue and vermilion of Okabe and Ito's palette, told apart with every kind of colour vision and in grey.
TRAINING, VALIDATION = "#0072B2", "#D55E00"
GRID, TEXT, DIVIDER = "#E3E3E3", "#333333", "#666666"


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a history with one row an epoch, `val_…` beside each: the main figure and `loss`; nothing without an epoch.

    With several labels the main figure is `mean_average_precision`, else `accuracy`; where classes have weights, the
    `weighted_accuracy`, by which the best epoch is chosen, stands beside it. Epochs are counted through; where
    those of the head end and those of fine-tuning begin stands a line.

    Args:
        history: Rows with at least one of the above, and after fine-tuning `stage`; other columns are left out.
        path: The PNG file to write.
    """
    columns = {name for row in history for name in row}
    several = "val_mean_average_precision" in columns  # accuracy, of all labels, is then high whatever is learned
    drawn = [
        (key, title) for key, title in PANELS if {key, f"val_{key}"} & columns and not (several and key == "accuracy")
    ]
    if not drawn:
        return
    # A figure of its own, never `pyplot`: that keeps figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6 * len(drawn), 3.6), dpi=150, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(wspace=0.06, w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    canvas = FigureCanvasAgg(figure)
    epochs = range(1, len(history) + 1)
    heads = sum(row.get("stage") == "head" for row in history)
    for axes, (key, title) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for name, column, colour, style in (
            ("training", key, TRAINING, "-"),
            ("validation", f"val_{key}", VALIDATION, "--"),
        ):
            if column in columns:
                values = [row.get(column, math.nan) for row in history]
                marker = "o" if len(values) < 3 else None  # one or two epochs make no line
                axes.plot(epochs, values, style, color=colour, linewidth=2, marker=marker, label=name)
        if 0 < heads < len(history):
            axes.axvline(heads + 0.5, color=DIVIDER, linewidth=1.2, linestyle=":", zorder=1)
            edge = 0.02 * (len(history) - 1)
            axes.set_xlim(1 - edge, len(history) + edge)  # also where only fine-tuning has the figure
            at = (heads + 0.5, 0.02)
            axes.annotate(
                " fine-tuning", at, xycoords=("data", "axes fraction"), fontsize=8, color=DIVIDER, va="bottom"
            )
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=TEXT)
        axes.set_xlabel("epoch", color=TEXT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.02, y=0.08)
        if key != "loss":
            low, high = axes.get_ylim()
            axes.set_ylim(low, min(high, 1 + 0.02 * (1 - low)))  # a share above 1 is none
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#999999")
        axes.tick_params(colors=TEXT, labelsize=9)
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2, "borderaxespad": 0.2}  # wherever lines run
        axes.legend(frameon=False, fontsize=9, labelcolor=TEXT, handlelength=2.6, **place)
    canvas.print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]
