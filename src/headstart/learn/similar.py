"""The training pictures that are most like a picture, as the model sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from headstart.core import digests
from headstart.core.errors import DataError, ImageError
from headstart.core.predictor import Predictor
from headstart.core.progress import Progress
from headstart.learn.dataset import read_dataset_of
from headstart.learn.features.saved import saved_features

NEIGHBOURS = 5


class Neighbour(NamedTuple):
    """A training picture: its path, its label, and the cosine of its features with those of the picture asked for."""

    path: str
    label: str
    similarity: float


class TrainingPictures:
    """The pictures that a model was trained on, with their features; read once, asked often.

    Args:
        predictor: The model, from `headstart.load`. It knows its training pictures by their digests only.
        data: The folder, manifest or DataFrame that it was fitted on: gives the pictures' paths and labels. What it
            was not trained on (test pictures, later ones) is left out.
        progress: Is shown the pictures that have to be computed; after `fit` on a frozen backbone there are none.

    Raises:
        DataError: The data cannot be read, or hold none of the training pictures.
        CacheError: The feature cache cannot be written.
    """

    def __init__(
        self, predictor: Predictor, data: str | os.PathLike[str] | Any, *, progress: Progress | None = None
    ) -> None:
        dataset = read_dataset_of(data, predictor.description)
        learned = digests.trained_on(predictor.description)
        chosen: dict[str, tuple[str, str]] = {}
        for row, path in enumerate(dataset.paths):
            try:
                content = digests.of_picture(path)
            except ImageError:  # what cannot be read was not trained on
                continue
            if digests.short(content) in learned:
                chosen.setdefault(content, (path, dataset.label(row)))
        if not chosen:
            raise DataError(
                f"{dataset.source} holds none of the {len(learned):,} pictures that the model was trained on. "
                "Name the folder or manifest that it was fitted on."
            )
        self.paths = tuple(path for path, _ in chosen.values())
        self.labels = tuple(label for _, label in chosen.values())
        self._rows = _unit(saved_features(predictor, self.paths, list(chosen), progress=progress))

    def most_similar(self, features: np.ndarray, count: int = NEIGHBOURS) -> list[Neighbour]:
        """Return the training pictures with the largest cosine similarity, the most similar first.

        Args:
            features: float32 `(d,)`, of one picture, from the same model.
            count: How many.
        """
        similarities = self._rows @ _unit(np.asarray(features, np.float32)[None])[0]
        order: Sequence[int] = np.argsort(-similarities, kind="stable")[:count].tolist()
        return [Neighbour(self.paths[row], self.labels[row], float(similarities[row])) for row in order]


def _unit(rows: np.ndarray) -> np.ndarray:
    divided: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return divided
