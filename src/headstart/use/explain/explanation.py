"""What a model looked at in pictures: the answer, the heat over the whole picture, and the overlay."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from headstart.core import images as decoding
from headstart.core import pictures as sources
from headstart.core.artifact import WEIGHTS
from headstart.core.errors import ImageError, SettingError, unknown_name
from headstart.core.pictures import Picture
from headstart.core.predictor import Prediction, Predictor
from headstart.core.preprocessing import shrink
from headstart.use.explain.heat import over_whole, overlay

Method = Literal["auto", "gradcam", "occlusion"]
Similar = tuple[str, str, float]
FindSimilar = Callable[[np.ndarray], Sequence[Similar]]
HeatMaps = Callable[[np.ndarray, np.ndarray], np.ndarray]
# The longer side of what is drawn; more than a screen shows takes memory only.
MAX_SIDE = 1024


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looked in one picture, or the `error` that says why there is nothing to show.

    Attributes:
        name: The picture's path, or its position.
        error: One sentence, or None.
        label: The most probable class.
        target: The class that is explained.
        probability: Of `target`.
        method: `gradcam` or `occlusion`.
        picture: uint8 RGB `(h, w, 3)`, the whole picture, at most 1024 pixels a side.
        heat: float32 `(h, w)` in [0, 1], how much each place speaks for `target`; NaN where the network saw nothing.
        features: float32 `(d,)`, what the head is given.
        similar: The most similar training pictures, `(path, label, cosine similarity)` each, where they were asked for.
        unknown: Whether the model answers `unknown`, so that `target` is only what it would be if it had to be one;
            None where it does not say.
    """

    name: str
    error: str | None
    label: str
    target: str
    probability: float
    method: str
    picture: np.ndarray
    heat: np.ndarray
    features: np.ndarray
    similar: tuple[Similar, ...] = ()
    unknown: bool | None = None

    def overlay(self) -> np.ndarray:
        """Return the heat drawn over the picture, uint8 RGB `(h, w, 3)`."""
        return overlay(self.picture, self.heat)

    def peak(self) -> tuple[float, float] | None:
        """Return where the heat is strongest, `(x, y)` as shares of width and height; None where there is no heat."""
        if self.error is not None or not np.nanmax(self.heat) > 0:
            return None
        row, column = np.unravel_index(int(np.nanargmax(self.heat)), self.heat.shape)
        return ((float(column) + 0.5) / self.heat.shape[1], (float(row) + 0.5) / self.heat.shape[0])


def explain_pictures(
    predictor: Predictor,
    pictures: Iterable[Picture],
    *,
    target: str | None = None,
    method: Method = "auto",
    similar: FindSimilar | None = None,
    workers: int | None = None,
) -> Iterator[Explanation]:
    """Yield where a saved model looked, picture by picture, in bounded memory; a broken picture has its `error` set.

    Args:
        predictor: The model, from `headstart.load`.
        pictures: Paths, bytes, arrays or PIL images.
        target: The class to explain; None takes each picture's most probable one.
        method: `gradcam` looks inside the network and needs torch; `occlusion` covers parts of the picture and needs
            only what predicting needs; `auto` takes the first where torch is installed
            and the model has the tensors for it; an exported one has not.
        similar: Features `(d,)` -> the most similar training pictures.
        workers: How many threads `occlusion` runs the network in; None: one a core.

    Raises:
        SettingError: There is no such class or method.
        ModelError: The model cannot be built again as a torch network; `occlusion` does without.
    """
    if target is not None and target not in predictor.classes:
        raise unknown_name("class", target, predictor.classes, "the model's model.json")
    method = choose_method(method, predictor)
    # Who wants few threads does not want all cores for the answer either.
    return _explain(
        predictor,
        pictures,
        target,
        method,
        make_heat_maps(predictor, method, workers),
        similar,
        many=workers is not None,
    )


def choose_method(method: str, predictor: Predictor) -> Method:
    """Return the method to use: `auto` is `gradcam` where torch, captum and the model's tensors are there.

    Raises:
        SettingError: There is no such method, or it needs a library that is not installed.
    """
    if method not in get_args(Method):
        raise unknown_name("method", method, get_args(Method), "`headstart explain --help`")
    missing = [name for name in ("torch", "captum") if importlib.util.find_spec(name) is None]
    if method == "gradcam" and missing:
        raise SettingError(f"method is 'gradcam', but {missing[0]} is not installed: choose occlusion, or install it.")
    if method == "auto":
        tensors = predictor.network_file.with_name(WEIGHTS)
        return "occlusion" if missing or not tensors.is_file() else "gradcam"
    return "gradcam" if method == "gradcam" else "occlusion"


def make_heat_maps(predictor: Predictor, method: Method, workers: int | None = None) -> HeatMaps:
    """Return the function `(images as the network sees them, targets) -> heat` of a method, for one model.

    `workers` is how many threads `occlusion` runs the network in; None: one a core.
    """
    if method == "occlusion":
        from headstart.use.explain import occlusion

        return lambda images, targets: occlusion.heat_maps(predictor, images, targets, workers=workers)
    from headstart.networks import load_network
    from headstart.use.explain import gradcam

    model = load_network(predictor.network_file.parent)
    return lambda images, targets: gradcam.heat_maps(model, images, targets)


def _explain(
    predictor: Predictor,
    pictures: Iterable[Picture],
    target: str | None,
    method: Method,
    heat_maps: HeatMaps,
    similar: FindSimilar | None,
    *,
    many: bool,
) -> Iterator[Explanation]:
    for index, picture in enumerate(pictures):
        name = sources.name(picture, index)
        try:
            data = sources.to_bytes(picture)
            seen = sources.load(data, predictor.preprocessing)
            pixels = data if isinstance(data, np.ndarray) else decoding.decode(data, (MAX_SIDE, MAX_SIDE))
            whole = shrink(pixels, MAX_SIDE)
        except ImageError as error:
            nothing = np.zeros((0, 0), np.float32)
            pixels = np.zeros((0, 0, 3), np.uint8)
            yield Explanation(name, str(error), "", target or "", np.nan, method, pixels, nothing, nothing.ravel())
            continue
        outputs = {key: rows[0] for key, rows in predictor.network(many=many).run(seen[None]).items()}
        probabilities, answered = outputs["probabilities"], predictor.answer(Prediction.of(name, outputs))
        chosen = int(probabilities.argmax()) if target is None else predictor.classes.index(target)
        heat = heat_maps(seen[None], np.array([chosen]))[0]
        yield Explanation(
            name=name,
            error=None,
            label=predictor.classes[int(probabilities.argmax())],
            target=predictor.classes[chosen],
            probability=float(probabilities[chosen]),
            method=method,
            picture=whole,
            heat=over_whole(heat, predictor.preprocessing, (whole.shape[0], whole.shape[1])),
            features=outputs["features"],
            similar=() if similar is None else tuple(similar(outputs["features"])),
            unknown=answered.unknown,
        )
