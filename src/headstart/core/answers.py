"""What people are told of one picture: the same words from the command line, the server and every export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core.calibration import prediction_sets


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    Attributes:
        label: The most probable class.
        probabilities: Every class with its probability, the most probable first.
        prediction_set: The classes that cannot be excluded at the model's coverage, the most probable first; None
            where the model has none.
        novelty: How unlike the training pictures it is; None where the model does not say.
        unknown: Whether that is more than the model's threshold: probably none of the classes.
    """

    label: str
    probabilities: dict[str, float]
    prediction_set: tuple[str, ...] | None = None
    novelty: float | None = None
    unknown: bool | None = None

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """Return plain values; `set`, `unknown` and `novelty` are left out where the model does not say.

        Args:
            top: Only so many classes; None is all.
        """
        shown = list(self.probabilities.items())[:top]
        told: dict[str, Any] = {
            "label": self.label,
            "probabilities": {name: round(value, 6) for name, value in shown},
        }
        if self.prediction_set is not None:
            told["set"] = list(self.prediction_set)
        if self.novelty is not None:
            told["unknown"] = bool(self.unknown)
            told["novelty"] = round(self.novelty, 6)
        return told


@dataclass(frozen=True)
class Thresholds:
    """When a class belongs into a prediction set, and when a picture is unknown; None: the model does not say."""

    set_probability: float | None = None
    novelty: float | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds that `model.json` holds.

        Raises:
            TypeError: They are of the wrong type.
        """
        try:
            confidence = description.get("confidence") or {}
            found = [(confidence.get(name) or {}).get("threshold") for name in ("conformal", "novelty")]
            return cls(*(None if value is None else float(value + 0) for value in found))
        except (AttributeError, TypeError):
            raise TypeError("confidence is of the wrong type") from None


def answer(probabilities: np.ndarray, novelty: float | None, classes: Sequence[str], thresholds: Thresholds) -> Answer:
    """Return what a model says of one picture.

    Args:
        probabilities: `(c,)`.
        novelty: Its novelty, or None.
        classes: The c names.
        thresholds: Of the model.
    """
    order = (-probabilities).argsort(kind="stable")  # of equal ones the first, as `argmax` has it
    ranked = {classes[index]: float(probabilities[index]) for index in order}
    chosen = None
    if thresholds.set_probability is not None:
        inside = prediction_sets(probabilities[None], thresholds.set_probability)[0]
        chosen = tuple(classes[index] for index in order if inside[index])
    unknown = None
    if novelty is not None:
        unknown = thresholds.novelty is not None and novelty > thresholds.novelty
    return Answer(next(iter(ranked)), ranked, chosen, novelty, unknown)
