"""The user's pictures that an export is calibrated, proved and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.core import images
from headstart.core.errors import DataError, ImageError


@dataclass(frozen=True, eq=False)
class Data:
    """The user's pictures: n paths, and int `targets (n,)`, indices into the model's classes, where they are known."""

    paths: Sequence[str]
    targets: np.ndarray | None = None


def some(rows: Sequence[int], count: int) -> list[int]:
    """Return so many of the rows, chosen by a fixed seed, in order."""
    if len(rows) <= count:
        return list(rows)
    return sorted(np.random.default_rng(0).choice(np.asarray(rows), count, replace=False).tolist())


def read_pictures(data: Data, rows: Sequence[int]) -> dict[str, bytes]:
    """Return the files of the rows by path, without those that are no pictures.

    Raises:
        DataError: None of them is a picture.
    """
    found = {}
    for row in rows:
        try:
            picture = images.read(data.paths[row])
            images.decode(picture, min_size=(32, 32))
        except ImageError:
            continue
        found[data.paths[row]] = picture
    if not found:
        raise DataError("none of the pictures can be read. Name a folder of pictures with --data.")
    return found
