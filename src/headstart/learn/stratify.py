"""Sharing out pictures with several labels so that every part gets its share of every label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def share_out(labels: np.ndarray, units: np.ndarray, order: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return the part that each picture goes to, int64 `(n,)`: iterative stratification, no unit divided.

    Sechidis et al. 2011 (doi:10.1007/978-3-642-23808-6_10): the label with the fewest pictures left is shared out
    first, each of its pictures to the part that lacks most of it, and of several such parts to the one that lacks most
    pictures; pictures without a label come last. Here a whole unit goes at once, with all that its pictures have.

    Args:
        labels: bool `(n, c)`.
        units: int `(n,)`, equal for pictures that stay together.
        order: `(n,)`, by which units of the same label are taken in turn: equal within a unit, different between units.
        shares: Share of the pictures for each part; a part whose share is 0 gets none.
    """
    _, first, of = np.unique(units, return_index=True, return_inverse=True)
    contents = np.zeros((len(first), labels.shape[1]), np.int64)
    np.add.at(contents, of, labels)
    sizes, turn = np.bincount(of), np.argsort(np.asarray(order)[first], kind="stable")
    wanted = np.asarray(shares, np.float64)
    lacking, room = np.outer(wanted, contents.sum(axis=0)), wanted * len(labels)
    part = np.full(len(first), -1, np.int64)

    def give(unit: int, wish: np.ndarray) -> None:
        possible = np.where(wanted > 0, wish, -np.inf)
        best = np.flatnonzero(possible >= possible.max() - 1e-9)
        chosen = int(best[room[best].argmax()])
        part[unit] = chosen
        lacking[chosen] -= contents[unit]
        room[chosen] -= sizes[unit]

    while True:
        left = contents[part < 0].sum(axis=0)
        if not left.any():
            break
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for unit in turn:
            if part[unit] < 0 and contents[unit, rarest]:
                give(int(unit), lacking[:, rarest])
    for unit in turn:
        if part[unit] < 0:
            give(int(unit), room)
    return part[of]
