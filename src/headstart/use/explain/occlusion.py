"""Heat maps from outside: cover a part of the picture and see what the answer loses. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from headstart.core.errors import SettingError
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.predictor import BATCH_SIZE, Predictor

GRID = 8
MAX_GRID = 32
# A smaller loss (of log odds) is no reason to paint a place as bright as any: large things survive any one square.
CLEAR_LOSS = 1.0
# Below this a probability is rounding; float32 can hold 1e-38.
_LEAST = 1e-30


def heat_maps(
    predictor: Predictor, images: np.ndarray, targets: np.ndarray, *, grid: int = GRID, workers: int | None = None
) -> np.ndarray:
    """Return where covering a picture costs a class its answer: occlusion sensitivity.

    Zeiler and Fergus 2014 (arXiv:1311.2901, section 4.2): a square slides over the picture and what the class loses is
    put down where the square was. Here it is two cells of the grid wide and moves by one, over the border too, so that
    every cell is covered four times; it is filled with the picture's own blurred colours rather than grey, which would
    itself be something to see. The loss is that of the class's log probability less the mean of the others', as
    probabilities near 1 hardly move. Only `Predictor` is used: every model and every machine has that.

    Args:
        predictor: The model.
        images: uint8 `(n, h, w, 3)`, as the network sees them (`Preprocessing`).
        targets: int `(n,)`, the class of each picture to explain.
        grid: Cells a side; the network runs on `(grid + 1) ** 2 + 1` pictures for each of the n.
        workers: How many threads run the network, each in a stream of its own; None: one a core.

    Returns:
        float32 `(n, h, w)` in [0, 1]; a picture's strongest place is 1 if covering it divides the odds by e or more,
        and fainter if by less; all 0 where covering loses nothing.

    Raises:
        SettingError: `grid` is not from 2 to 32.
    """
    from headstart.use.explain.heat import enlarge

    if not 2 <= grid <= MAX_GRID:
        raise SettingError(f"grid is {grid!r}: give a whole number from 2 to {MAX_GRID}.")
    losses = np.zeros((len(images), grid, grid), np.float32)
    for image, target, out in zip(images, targets, losses, strict=True):
        support = np.concatenate(list(_run(predictor, _covered(image, grid), workers)))
        logits = np.log(np.maximum(support, _LEAST))
        others = np.delete(logits, int(target), axis=1).mean(axis=1)
        evidence = logits[:, int(target)] - others
        lost = (evidence[0] - evidence[1:]).reshape(grid + 1, grid + 1)
        # The four squares that cover a cell begin at it and one cell before it, in both directions.
        out[:] = (lost[:-1, :-1] + lost[1:, :-1] + lost[:-1, 1:] + lost[1:, 1:]) / 4
    return enlarge(losses.clip(min=0), images.shape[1:3], least=CLEAR_LOSS)


def _covered(image: np.ndarray, grid: int) -> Iterator[np.ndarray]:
    """Yield the picture as it is, then with each square covered, row by row from outside the upper left corner."""
    height, width = image.shape[:2]
    rows, columns = (np.linspace(0, side, grid + 1).round().astype(int) for side in (height, width))
    blurred = cv2.GaussianBlur(image, (0, 0), sigmaX=2 * width / grid, sigmaY=2 * height / grid)
    yield image
    for row in range(-1, grid):
        for column in range(-1, grid):
            covered = image.copy()
            part = np.s_[
                rows[max(row, 0)] : rows[min(row + 2, grid)], columns[max(column, 0)] : columns[min(column + 2, grid)]
            ]
            covered[part] = blurred[part]
            yield covered


def _run(predictor: Predictor, images: Iterator[np.ndarray], workers: int | None) -> Iterator[np.ndarray]:
    """Yield the probabilities `(…, c)` of pictures as the network sees them."""
    network = predictor.network(many=True)

    def work(chunk: list[np.ndarray]) -> np.ndarray:
        return network.run(np.stack(chunk))["probabilities"]

    yield from map_ordered(work, chunked(images, BATCH_SIZE), workers=workers or network.streams)
