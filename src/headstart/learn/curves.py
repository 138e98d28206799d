"""`curves.png`: the main figure and the loss by epoch, training solid, validation dashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

PANELS = (("accuracy", "Accuracy"), ("mean_average_precision", "Mean average precision"), ("loss", "Loss"))
# Blue and vermilion of Okabe and Ito's palette, told apart with every kind of colour vision and in grey.
TRAINING, VALIDATION = "#0072B2", "#D55E00"
GRID, TEXT = "#E3E3E3", "#333333"


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw a history with one row an epoch, `val_…` beside each: the main figure and `loss`; nothing without an epoch.

    With several labels the main figure is `mean_average_precision`, else `accuracy`.

    Args:
        history: Rows with `epoch` and at least one of the above; other columns are left out.
        path: The PNG file to write.
    """
    columns = set(history[0]) if history else set()
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
    epochs = [row.get("epoch", index) for index, row in enumerate(history, 1)]
    for axes, (key, title) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for name, column, colour, style in (
            ("training", key, TRAINING, "-"),
            ("validation", f"val_{key}", VALIDATION, "--"),
        ):
            if column in history[0]:
                values = [row[column] for row in history]
                marker = "o" if len(values) < 3 else None  # one or two epochs make no line
                axes.plot(epochs, values, style, color=colour, linewidth=2, marker=marker, label=name)
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
