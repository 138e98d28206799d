"""The picture of a comparison: how good against how fast, a mark with its interval for every choice."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.replacing import new_file
from headstart.learn.compare.comparison import Comparison, Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with every kind of colour vision; the shape says the same as the colour.
MARKS = {"linear": ("#0072B2", "o"), "mlp": ("#D55E00", "s"), "prototype": ("#009E73", "D")}
OTHER = ("#CC79A7", "v")
TEXT, SOFT, GRID = "#222222", "#767676", "#E3E3E3"
# Choices of one backbone are equally fast: they stand this factor apart.
APART = 1.055
LINE = 6  # pixels between a backbone's name and the line below it


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the scores with 95 % intervals against extraction speed; the recommended choice has a ring.

    Args:
        comparison: What was found.
        path: The PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own, never `pyplot`: that keeps figures and a backend for the whole process.
    figure = Figure(figsize=(8.4, 5.2), dpi=150, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)  # type: ignore[union-attr, call-arg]
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = _places(comparison)
    for place, scored in enumerate(comparison.scored):
        _mark(axes, scored, places[place], ring=place == comparison.recommended)
    _axes(axes, comparison, list(places.values()))
    _legend(axes, comparison)
    figure.draw_without_rendering()  # the layout must stand before text can be kept from overlapping
    _name_backbones(axes, comparison, places)
    with new_file(path) as temporary:
        canvas.print_png(temporary, metadata={"Software": None})  # type: ignore[no-untyped-call]


def _places(comparison: Comparison) -> dict[int, float]:
    """Return where each choice stands from left to right, in pictures a second.

    The choices of one backbone stand side by side about its speed; backbones that are nearly as fast as each other make
    room, so that it is plain which marks are whose. Their labels tell the speeds themselves.
    """
    step, clusters = math.log(APART), list[tuple[float, float, list[int]]]()
    for name in sorted(comparison.backbones, key=lambda name: _speed(comparison, name)):
        mine = [place for place, scored in enumerate(comparison.scored) if scored.choice.backbone == name]
        mine.sort(key=lambda place: (comparison.scored[place].choice.method, comparison.scored[place].choice.head))
        clusters.append((math.log(_speed(comparison, name)), (len(mine) - 1) / 2 * step, mine))
    gap = 1.6 * step
    middles = [middle for middle, _, _ in clusters]
    for _ in range(100):  # each overlap is shared by both sides, until there is none
        for left, right in itertools.pairwise(range(len(clusters))):
            over = middles[left] + clusters[left][1] + gap + clusters[right][1] - middles[right]
            if over > 0:
                middles[left] -= over / 2
                middles[right] += over / 2
    return {
        place: math.exp(middle + index * step - half)
        for middle, (_, half, mine) in zip(middles, clusters, strict=True)
        for index, place in enumerate(mine)
    }


def _speed(comparison: Comparison, backbone: str) -> float:
    return comparison.backbones[backbone].speed.pictures_per_second


def _style(scored: Scored) -> tuple[str, str]:
    return MARKS.get(scored.choice.head, OTHER)


def _mark(axes: Axes, scored: Scored, x: float, *, ring: bool) -> None:
    colour, shape = _style(scored)
    score = scored.score
    tuned = scored.choice.method != "frozen"
    axes.plot([x, x], [score.low, score.high], color=colour, linewidth=1.6, alpha=0.55, solid_capstyle="round")
    axes.plot(
        x,
        score.value,
        shape,
        markersize=8.5,
        color="white" if tuned else colour,
        markeredgecolor=colour if tuned else "white",
        markeredgewidth=1.8 if tuned else 1.0,
        zorder=3,
    )
    if ring:
        axes.plot(x, score.value, "o", markersize=17, fillstyle="none", color=TEXT, markeredgewidth=1.5, zorder=4)


def _axes(axes: Axes, comparison: Comparison, xs: list[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    middle = (min(xs) * max(xs)) ** 0.5
    span = max(max(xs) / min(xs), 2.5) ** 0.5 * 1.35
    axes.set_xlim(middle / span, middle * span)
    lowest = min(scored.score.low for scored in comparison.scored)
    highest = max(scored.score.high for scored in comparison.scored)
    room = max(highest - lowest, 0.02)
    axes.set_ylim(lowest - 0.08 * room, highest + 0.24 * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_title(
        f"{comparison.data}: {comparison.measured} against speed",
        loc="left",
        fontsize=13,
        fontweight="bold",
        color=TEXT,
        pad=26,
    )
    repeats = "" if comparison.repeats == 1 else f"{comparison.repeats} x "
    axes.text(
        *(0, 1.025),
        f"{comparison.pictures:,} training and validation pictures, {repeats}{comparison.folds}-fold cross-validation, "
        "95 % intervals",
        transform=axes.transAxes,
        fontsize=9.5,
        color=SOFT,
    )
    axes.set_xlabel("pictures a second on this machine (features; log scale)", color=TEXT)
    axes.set_ylabel(f"{comparison.measured} on held-out pictures", color=TEXT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(which="both", colors=TEXT, labelsize=9)
    axes.tick_params(axis="x", which="minor", length=0)


def _legend(axes: Axes, comparison: Comparison) -> None:
    from matplotlib.lines import Line2D

    def sample(label: str, shape: str, **style: Any) -> Line2D:
        return Line2D([], [], linestyle="none", marker=shape, markersize=8, label=label, **style)

    there = {scored.choice.head for scored in comparison.scored}
    heads = [head for head in MARKS if head in there] + sorted(there - set(MARKS))
    entries = [
        sample(head, MARKS.get(head, OTHER)[1], color=MARKS.get(head, OTHER)[0], markeredgecolor="white")
        for head in heads
    ]
    if any(scored.choice.method != "frozen" for scored in comparison.scored):
        entries.append(sample("fine-tuned", "o", color="white", markeredgecolor=TEXT, markeredgewidth=1.8))
    entries.append(sample("recommended", "o", color=TEXT, fillstyle="none", markeredgewidth=1.5))
    entries[-1].set_markersize(12)
    axes.legend(
        handles=entries,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=len(entries),
        frameon=False,
        fontsize=9.5,
        labelcolor=TEXT,
        handletextpad=0.3,
        columnspacing=1.8,
    )


def _name_backbones(axes: Axes, comparison: Comparison, places: dict[int, float]) -> None:
    """Write each backbone's name and speed above its marks, moved up until it covers neither name nor interval."""
    figure = axes.figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken = [_drawn(axes, scored, places[place]) for place, scored in enumerate(comparison.scored)]
    limits = axes.get_window_extent(renderer)
    # The one with the highest score first: the others make room.
    for name in dict.fromkeys(scored.choice.backbone for scored in comparison.scored):
        mine = [place for place, scored in enumerate(comparison.scored) if scored.choice.backbone == name]
        left, right = min(places[place] for place in mine), max(places[place] for place in mine)
        label = axes.annotate(
            f"{name}, {_speed(comparison, name):.0f}/s",
            ((left * right) ** 0.5, max(comparison.scored[place].score.high for place in mine)),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9.5,
            color=TEXT,
        )
        box = label.get_window_extent(renderer)
        aside = (max(limits.x0 - box.x0, 0) - max(box.x1 - limits.x1, 0)) * 72 / figure.dpi
        for rise in range(8, 200, 3):
            label.set_position((aside, rise))
            box = label.get_window_extent(renderer)
            if not any(_with_line(box).padded(4).overlaps(other) for other in taken):
                break
        taken.append(_with_line(box))
        bottom = axes.transData.inverted().transform((0, box.y0 - LINE))[1]
        axes.plot([left / 1.012, right * 1.012], [bottom, bottom], color=SOFT, linewidth=1.0)


def _with_line(box: Any) -> Any:
    """Return the pixels of a name and of the line below it, which tells whose marks it names."""
    from matplotlib.transforms import Bbox

    return Bbox([[box.x0, box.y0 - LINE], [box.x1, box.y1]])


def _drawn(axes: Axes, scored: Scored, x: float) -> Any:
    """Return the pixels that a mark and its interval take."""
    from matplotlib.transforms import Bbox

    (left, low), (right, high) = axes.transData.transform([(x, scored.score.low), (x, scored.score.high)]).tolist()
    return Bbox([[left - 12, low], [right + 12, high]])
