"""Pictures to fit models on that are exported, and labelled ones to measure exports on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from headstart.core.predictor import Predictor
from headstart.use.exporters.data import Data


def write_pictures(
    folder: Path, make_picture: Callable[..., Path], names: Mapping[str, str], each: int, first: int = 0
) -> Path:
    """Write class folders, and return the folder above them.

    Args:
        folder: Where they go.
        make_picture: The fixture.
        names: The kinds of picture, and what their classes are called.
        each: Pictures of each class.
        first: Seed of the first of each; pictures of equal seeds and kinds are the same.
    """
    for kind, name in names.items():
        for index in range(each):
            make_picture(folder / name / f"{index:03}.jpg", kind, (96, 128), first + index)
    return folder


def labelled(predictor: Predictor, *folders: Path) -> Data:
    """Return the pictures of class folders, with the classes of a model."""
    paths = sorted(str(path) for folder in folders for path in folder.rglob("*.jpg"))
    return Data(paths, np.array([predictor.classes.index(Path(path).parent.name) for path in paths]))
