"""What people are told of one picture: the same words from the command line, the server and every export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core.calibration import THRESHOLD, prediction_sets


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    Attributes:
        label: The most probable class.
        probabilities: Every class with its probability, the most probable first.
        prediction_set: The classes that cannot be excluded at the model's coverage, the most probable first; None
            where the model has none.
        novelty: How unlike the training pictures it is; None where the model does not say.
        unknown: Whether that is more than the model's threshold: probably none of the classes. None where there were
            too few pictures for a threshold.
        labels: The classes that are given, the most probable first, perhaps none; None where a picture has one class.
    """

    label: str
    probabilities: dict[str, float]
    prediction_set: tuple[str, ...] | None = None
    novelty: float | None = None
    unknown: bool | None = None
    labels: tuple[str, ...] | None = None

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """Return plain values; `set`, `unknown` and `novelty` are left out where the model does not say.

        Where pictures have several labels, `labels` stands in the place of `label`.

        Args:
            top: Only so many classes; None is all.
        """
        shown = list(self.probabilities.items())[:top]
        told: dict[str, Any] = {
            **({"label": self.label} if self.labels is None else {"labels": list(self.labels)}),
            "probabilities": {name: round(value, 6) for name, value in shown},
        }
        if self.prediction_set is not None:
            told["set"] = list(self.prediction_set)
        if self.unknown is not None:
            told["unknown"] = self.unknown
        if self.novelty is not None:
            told["novelty"] = round(self.novelty, 6)
        return told


@dataclass(frozen=True)
class Thresholds:
    """When a class belongs into a prediction set, and when a picture is unknown; None: the model does not say.

    `labels`: from which probability on each of the c classes is given, where pictures have several labels, else None.
    """

    set_probability: float | None = None
    novelty: float | None = None
    labels: tuple[float, ...] | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds that `model.json` holds.

        Raises:
            TypeError: They are of the wrong type.
        """
        try:
            confidence, labels = description.get("confidence") or {}, None
            found = [(confidence.get(name) or {}).get("threshold") for name in ("conformal", "novelty")]
            if description.get("output") == "multilabel":
                chosen = (confidence.get("labels") or {}).get("thresholds") or {}
                labels = tuple(float(chosen.get(name, THRESHOLD) + 0) for name in description["classes"])
            coverage, novelty = (None if value is None else float(value + 0) for value in found)
            return cls(coverage, novelty, labels)
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
    given = None
    if thresholds.labels is not None:
        given = tuple(classes[index] for index in order if float(probabilities[index]) >= thresholds.labels[index])
    unknown = None
    if novelty is not None and thresholds.novelty is not None:
        unknown = novelty > thresholds.novelty
    return Answer(next(iter(ranked)), ranked, chosen, novelty, unknown, given)
