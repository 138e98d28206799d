"""The charts of a report as SVG that lies in the page: its text is text, its colours are the page's own.

matplotlib draws; colours are written as CSS variables afterwards, so that dark mode and paper change them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.calibration import Bin
from headstart.core.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that no chart has otherwise -> variables of the page.
INK, SOFT, GRID, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {INK: "ink", SOFT: "soft", GRID: "grid", FIRST: "first", SECOND: "second"}
PANELS = {
    "accuracy": "Accuracy",
    "weighted_accuracy": "Weighted accuracy",
    "mean_average_precision": "Mean average precision",
    "loss": "Loss",
}


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the main figure and the loss by epoch, a chart each, training solid and validation dashed, if any.

    Epochs are counted through; where those of the head end and those of fine-tuning begin stands a line.
    """
    found, columns = {}, {name for row in history for name in row}
    for key, title in PANELS.items():
        if key == "accuracy" and "val_mean_average_precision" in columns:
            continue  # of several labels it is the share of all labels, which is high whatever is learned
        if {key, f"val_{key}"} & columns:
            found[title] = _curve(history, key)
    return found


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> str:
    from matplotlib.ticker import MaxNLocator

    figure = _figure(4.2, 3.0)
    axes = _axes(figure, "epoch", key.replace("_", " "))
    epochs = range(1, len(history) + 1)
    heads = sum(row.get("stage") == "head" for row in history)
    for name, column, colour, style in (("training", key, FIRST, "-"), ("validation", f"val_{key}", SECOND, "--")):
        if any(column in row for row in history):
            marker = "o" if len(history) < 3 else None  # one or two epochs make no line
            values = [row.get(column, math.nan) for row in history]
            axes.plot(epochs, values, style, color=colour, linewidth=2, marker=marker, label=name)
    if 0 < heads < len(history):
        axes.axvline(heads + 0.5, color=SOFT, linewidth=1.2, linestyle=":", zorder=1)
        axes.set_xlim(1 - 0.05 * (len(history) - 1), len(history) + 0.05 * (len(history) - 1))
        at = (heads + 0.5, 0.02)
        axes.annotate(" fine-tuning", at, xycoords=("data", "axes fraction"), fontsize=9, color=SOFT, va="bottom")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if key != "loss":
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high, 1 + 0.02 * (1 - low)))  # a share above 1 is none
    # Above the lines, wherever they run.
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        borderaxespad=0.2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=2.6,
    )
    return _svg(figure)


def reliability(bins: Sequence[Bin], across: str, up: str, *, intervals: bool) -> str:
    """Return a reliability diagram: the share that came true against the probability.

    Args:
        bins: The points.
        across: What the probability is of.
        up: What the share is of.
        intervals: Whether to draw 95 % Wilson intervals, which hold where what a bin counts is independent.
    """
    figure = _figure(4.2, 3.5)
    axes = _axes(figure, across, up)
    low = min([0.5, *(one.low for one in bins)])
    axes.plot([low, 1], [low, 1], "--", color=SOFT, linewidth=1)
    at, share = [one.confidence for one in bins], np.array([one.accuracy for one in bins])
    lowest = min(low, float(share.min()))
    if intervals:
        ends = np.array([wilson(round(one.accuracy * one.count), one.count) for one in bins])
        around = np.abs(ends.T - share)
        axes.errorbar(at, share, yerr=around, fmt="none", ecolor=FIRST, elinewidth=1.5, alpha=0.55, capsize=0)
        lowest = min(lowest, float(ends.min()))
    most = max(one.count for one in bins)
    areas = [18 + 130 * one.count / most for one in bins]
    axes.scatter(at, share, s=areas, color=FIRST, zorder=3, linewidths=0)
    axes.set_xlim(low - 0.01, 1.02)
    axes.set_ylim(lowest - 0.02, 1.03)
    return _svg(figure)


def novelty(scores: np.ndarray, threshold: float | None) -> str:
    """Return a histogram of how unlike the training pictures each picture is, and the threshold of `unknown`."""
    figure = _figure(4.2, 3.5)
    axes = _axes(figure, "novelty", "pictures")
    axes.hist(scores, bins=_edges(scores, threshold), color=FIRST, rwidth=0.94)
    if threshold is not None:
        axes.axvline(threshold, color=SECOND, linewidth=2)
        high = axes.get_ylim()[1] * 1.14
        axes.set_ylim(0, high)
        left, right = axes.get_xlim()
        axes.set_xlim(left, max(right, threshold + 0.3 * (threshold - left)))  # room for the word
        for word, side, shift in (("known", "right", -6), ("unknown", "left", 6)):
            axes.annotate(
                word,
                (threshold, high * 0.95),
                (shift, 0),
                textcoords="offset points",
                color=INK,
                fontsize=9,
                ha=side,
                va="center",
            )
    return _svg(figure)


def _edges(scores: np.ndarray, threshold: float | None) -> int | list[float]:
    """Return the bins of a histogram, of which one begins at the threshold: no bar stands on both sides of it."""
    bins = min(30, max(8, len(scores) // 8))
    width = float(np.ptp(scores)) / bins
    if threshold is None or width == 0 or not scores.min() < threshold < scores.max():
        return bins
    below, above = np.ceil((threshold - scores.min()) / width), np.ceil((scores.max() - threshold) / width)
    edges = threshold + width * np.arange(-below, above + 1)
    # Rounding must leave no score outside.
    edges[0], edges[-1] = min(edges[0], scores.min()), max(edges[-1], scores.max())
    return [float(edge) for edge in edges]


def _figure(width: float, height: float) -> Figure:
    # A figure of its own, never `pyplot`: that keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def _axes(figure: Figure, across: str, up: str) -> Axes:
    axes: Axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.set_xlabel(across, color=SOFT, fontsize=9)
    axes.set_ylabel(up, color=SOFT, fontsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelsize=9, length=0, pad=5, labelcolor=SOFT)
    return axes


def _svg(figure: Figure) -> str:
    """Return the figure as an `<svg>` without the XML around it, in the page's colours and letters."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headstart"}), StringIO() as file:
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
        text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several charts share a page: names that nothing refers to would stand in it twice.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would style the whole page
    text = re.sub(r'font-family: [^;"]*;? ?', "", text)
    for stand_in, name in _VARIABLES.items():
        text = text.replace(stand_in, f"var(--{name})")
    return text
