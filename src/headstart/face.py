"""What the package offers in Python that needs both sides: what learns and what uses."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.core.predictor import Predictor
    from headstart.use.explain import Explanation, Method


def explain(
    model: str | os.PathLike[str] | Predictor,
    pictures: Any,
    *,
    target: str | None = None,
    method: Method = "auto",
    data: Any = None,
    count: int = 5,
) -> list[Explanation]:
    """Return where a saved model looked in pictures, and the training pictures they are most like.

    Args:
        model: A model folder, or what `load` returned.
        pictures: One or several of: path, folder, bytes, uint8 RGB array `(h, w, 3)`, PIL image.
        target: The class to explain; None takes each picture's most probable one.
        method: `gradcam` looks inside the network and needs torch; `occlusion` covers parts of the picture and needs
            only what predicting needs; `auto` takes the first where torch is installed.
        data: The folder, manifest or DataFrame that the model was fitted on: then each explanation also has the most
            similar training pictures, by the cosine of their features.
        count: How many of them.

    Returns:
        An `Explanation` for each picture: `label`, `probability`, `heat (h, w)`, `overlay()`, `similar`; a picture that
        cannot be read has its `error` set.

    Raises:
        ModelError: There is no such model, or it is damaged.
        SettingError: There is no such class or method, or `count` is not above 0.
        DataError: `data` holds none of the pictures that the model was trained on.
    """
    from headstart.core.artifact import load
    from headstart.core.errors import SettingError
    from headstart.core.pictures import as_list
    from headstart.core.predictor import Predictor
    from headstart.use.explain import explain_pictures

    if count < 1:
        raise SettingError(f"count is {count!r}: give a whole number from 1.")
    predictor = model if isinstance(model, Predictor) else load(model)
    similar = None
    if data is not None:
        from headstart.learn.similar import TrainingPictures

        similar = partial(TrainingPictures(predictor, data).most_similar, count=count)

    return list(explain_pictures(predictor, as_list(pictures), target=target, method=method, similar=similar))
