"""Which pictures a report shows, and how: thumbnails, where the network looked, what the crop cuts off."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from headstart.core import images as decoding
from headstart.core.errors import HeadstartError, ImageError
from headstart.core.machine import cores
from headstart.core.pipeline import map_ordered
from headstart.core.preprocessing import Preprocessing
from headstart.use.page import thumbnail_uri
from headstart.use.report.material import HeatMaps, Said

# Pictures on a page, those of them behind one cell of wrong names, and the most characters that all may take.
MOST, PER_CELL, BUDGET = 300, 40, 3_000_000
# The mistakes that get a heat map, and the longer side at which they and it are shown, in pixels.
HEATED, LARGE = 12, 224
CROPPED = 6


@dataclass(frozen=True)
class Shown:
    """One picture of the gallery.

    Attributes:
        row: Which of the `Decisions` it shows.
        address: Its thumbnail as a `data:` address; None where it cannot be read.
        heat: Where the network looked, likewise; None where that was not computed.
    """

    row: int
    address: str | None
    heat: str | None = None


@dataclass(frozen=True)
class Crop:
    """A picture and the window that the network sees of it: left, top, width, height in percent of its sides."""

    name: str
    address: str
    left: float
    top: float
    width: float
    height: float
    cut_off: float


def choose_rows(said: Said, most: int = MOST, per_cell: int = PER_CELL) -> list[int]:
    """Return which decisions to show, the most telling first.

    First the wrong ones, the surest of themselves first, at most `per_cell` of a cell of the confusion matrix; then of
    every class in turn a right one, the least sure first. Only pictures whose place is known.
    """
    made, known = said.decisions, np.array([path is not None for path in said.paths], bool)
    there = known[made.picture]
    wrong, behind = [], Counter[tuple[int, int]]()
    order = np.argsort(-made.confidence, kind="stable")
    for row in order[(~made.right & there)[order]].tolist():
        cell = (int(made.targets[row]), int(made.named[row]))
        behind[cell] += 1
        if behind[cell] <= per_cell:
            wrong.append(row)
    least_sure = order[(made.right & there)[order]][::-1]
    turn, place = Counter[int](), {}
    for row in least_sure.tolist():
        place[row] = turn[int(made.targets[row])]
        turn[int(made.targets[row])] += 1
    right = sorted(least_sure.tolist(), key=lambda row: place[row])
    # A model that is mostly wrong still shows some of what it gets right.
    wrong = wrong[: max(most - len(right), round(0.8 * most))]
    return wrong + right[: most - len(wrong)]


def show(said: Said, preprocessing: Preprocessing, heat_maps: HeatMaps | None) -> tuple[list[Shown], str | None]:
    """Return the pictures of the gallery with their thumbnails, and why there is no heat map, if there is a reason.

    Args:
        said: What the model said.
        preprocessing: Of the model.
        heat_maps: See `Material`; its errors leave the heat maps out.
    """
    rows = choose_rows(said)
    heated = [row for row in rows[:HEATED] if not said.decisions.right[row]] if heat_maps is not None else []
    heats, why = {}, None
    if heat_maps is not None and heated:
        try:
            heats = draw_heat(said, heated, preprocessing, heat_maps)
        except HeadstartError as error:
            why = str(error)
    made, spent = [], 0
    sides = [LARGE if row in heats else None for row in rows]
    for row, address in zip(rows, map_ordered(_thumbnail, _jobs(said, rows, sides), cores()), strict=False):
        spent += len(address or "") + len(heats.get(row, ""))
        if spent > BUDGET:
            break
        made.append(Shown(row, address, heats.get(row)))
    return made, why


def _jobs(said: Said, rows: list[int], sides: list[int | None]) -> list[tuple[str, int | None]]:
    return [(_path(said, row), side) for row, side in zip(rows, sides, strict=True)]


def _path(said: Said, row: int) -> str:
    return str(said.paths[said.decisions.picture[row]])


def _thumbnail(job: tuple[str, int | None]) -> str | None:
    path, side = job
    try:
        return thumbnail_uri(path) if side is None else thumbnail_uri(path, side)
    except ImageError:
        return None


def draw_heat(said: Said, rows: list[int], preprocessing: Preprocessing, heat_maps: HeatMaps) -> dict[int, str]:
    """Return pictures with what spoke for the class in question drawn over them, as `data:` addresses."""
    from headstart.use.explain import over_whole, overlay

    read: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for row in rows:
        try:
            data = decoding.read(_path(said, row))
            read[row] = (preprocessing.load(data), _small(decoding.decode(data, (LARGE, LARGE))))
        except ImageError:
            continue
    if not read:
        return {}
    heat = heat_maps(np.stack([seen for seen, _ in read.values()]), said.decisions.about[list(read)])
    return {
        row: thumbnail_uri(overlay(whole, over_whole(one, preprocessing, (whole.shape[0], whole.shape[1]))), LARGE)
        for (row, (_, whole)), one in zip(read.items(), heat, strict=True)
    }


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, LARGE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def crops(said: Said, preprocessing: Preprocessing, count: int = CROPPED) -> list[Crop]:
    """Return a few pictures, spread evenly over all, with the window that the network sees of them."""
    known = [row for row, path in enumerate(said.paths) if path is not None]
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    found = []
    for row in [known[place] for place in places]:
        try:
            pixels = decoding.decode(decoding.read(str(said.paths[row])), (LARGE, LARGE))
        except ImageError:
            continue
        height, width = pixels.shape[:2]
        x0, y0, x1, y1 = preprocessing.window(width, height)
        found.append(
            Crop(
                said.names[row],
                thumbnail_uri(pixels, LARGE),
                100 * x0 / width,
                100 * y0 / height,
                100 * (x1 - x0) / width,
                100 * (y1 - y0) / height,
                1 - preprocessing.share_seen(width, height),
            )
        )
    return found
