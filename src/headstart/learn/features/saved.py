"""Features that a saved model computes of pictures: from the cache where they are, else computed by it and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.core.progress import Progress
from headstart.learn.cache import make_room
from headstart.learn.features.extract import feature_space
from headstart.learn.features.store import Store


def saved_features(
    predictor: Predictor, paths: Sequence[str], digests: Sequence[str], *, progress: Progress | None = None
) -> np.ndarray:
    """Return the features below the head of a saved model, float32 `(n, d)`.

    A model on a frozen backbone shares what `fit` has cached. A fine-tuned one has features of its own, which are
    computed once, by the model itself, and kept beside the others.

    Args:
        predictor: The model, from `headstart.load`.
        paths: n pictures that can be read.
        digests: Of each picture's bytes (`core/digests.of_picture`).
        progress: Is shown the pictures computed.

    Raises:
        ImageError: A picture cannot be read.
        CacheError: The cache cannot be written.
    """
    progress = progress or Progress()
    keys = [bytes.fromhex(digest) for digest in digests]
    width = int(predictor.description["backbone"]["num_features"])
    found = np.empty((len(keys), width), np.float32)
    left = np.arange(len(keys))
    spaces = _spaces(predictor.description, width)
    for store in spaces:
        with store:
            absent = np.asarray(store.missing([keys[row] for row in left]), np.int64)
            there = np.delete(left, absent)
            found[there] = store.read([keys[row] for row in there])
        left = left[absent]
    if len(left):
        own = spaces[-1]
        make_room(len(left) * width * 4, keep=own.folder)
        with progress.step("extract", len(left)) as update:
            found[left] = predictor.extract_features([paths[row] for row in left.tolist()])
            update(len(left))
        with own:
            own.write([(keys[row], found[row]) for row in left])
    return found


def _spaces(description: dict[str, Any], width: int) -> list[Store]:
    """Return where a model's features may be cached: by `fit` where the backbone was frozen, and its own, the last."""
    backbone = description["backbone"]
    preprocessing = Preprocessing.from_json(description["preprocessing"])

    def space(weights: str, precision: str) -> Store:
        return feature_space(
            backbone["name"], weights, backbone["pooling"], preprocessing, precision, (width,), cut=None
        )

    own = space(f"model {description['files']['model.onnx']}", "float32")
    if description["method"] != "frozen":
        return [own]
    return [space(backbone["weights"], description["features"]["precision"]), own]
