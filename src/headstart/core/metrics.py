"""How good a classifier is, each figure with its 95 % interval. numpy only: predicting must stay light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart.core.errors import DataError
from headstart.core.intervals import (
    effective_size,
    from_variance,
    loss_if_wrong,
    mean_loss,
    mean_of_proportions,
    proportion,
    resamples_for,
)


@dataclass(frozen=True)
class Figure:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The figure with its interval, such as `0.954 (0.909 to 0.978)`."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class; `support` is how many pictures it has, `predicted` how often it was named.

    The precision of a class that is never named, and the recall of one without pictures, are 0 with the interval from
    0 to 1: nothing is known of them.

    With several labels a picture there is the label's average precision too, and the threshold from which on it is
    given.
    """

    precision: Figure
    recall: Figure
    f1: float
    support: int
    predicted: int
    average_precision: Figure | None = None
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of a classifier on n pictures.

    Attributes:
        n: Number of pictures.
        classes: The c class names.
        figures: `accuracy`, `balanced_accuracy`, `macro_f1`, `log_loss`, and `top5_accuracy` for more than 5 classes;
            with several labels a picture those of `core/labels.py`.
        per_class: One entry a class, in the order of `classes`.
        confusion: int64 `(c, c)`, true classes down, named classes across; with several labels `(c, 2, 2)`, each label
            against the rest, as scikit-learn's `multilabel_confusion_matrix`.
        majority: Accuracy of always naming the most frequent class; with several labels the exact match of always
            giving the most frequent combination.
        units: How many there are of pictures that belong together (the same, nearly the same, of one group) and those
            that stand alone; the intervals allow for it. None where it is not known: they count every picture.
    """

    n: int
    classes: tuple[str, ...]
    figures: dict[str, Figure]
    per_class: tuple[ClassFigures, ...]
    confusion: np.ndarray
    majority: float
    units: int | None = None

    @property
    def several_labels(self) -> bool:
        """Whether a picture may have several labels."""
        return self.confusion.ndim == 3

    @property
    def headline(self) -> str:
        """The figure that choices are made by: `accuracy`, or `mean_average_precision`."""
        return "mean_average_precision" if self.several_labels else "accuracy"

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` turns into an equal evaluation."""
        return {
            "n": self.n,
            "classes": list(self.classes),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "per_class": [{k: v for k, v in asdict(one).items() if v is not None} for one in self.per_class],
            "confusion": self.confusion.tolist(),
            "majority": self.majority,
            "units": self.units,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evaluation:
        """Return the evaluation that `to_json` described."""
        per_class = tuple(
            ClassFigures(**{key: Figure(**value) if isinstance(value, dict) else value for key, value in one.items()})  # type: ignore[arg-type]
            for one in values["per_class"]
        )
        figures = {name: Figure(**figure) for name, figure in values["figures"].items()}
        confusion = np.asarray(values["confusion"], np.int64)
        known = (confusion, values["majority"], values.get("units"))  # an earlier version did not tell the last
        return cls(values["n"], tuple(values["classes"]), figures, per_class, *known)


def evaluate(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int = 0,
    thresholds: Sequence[float] | np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> Evaluation:
    """Return the figures of probabilities on pictures with known classes, or with several labels each.

    Proportions have Wilson intervals; balanced accuracy and macro F1 have Wilson intervals at their effective sample
    size (see `core/intervals.py`), the variance of macro F1 coming from the bootstrap; log loss has the interval of
    `mean_loss`. Where pictures belong together all of them are wider by the design effect.

    Args:
        targets: int `(n,)`, indices into `classes`; or bool `(n, c)`, several labels a picture, whose figures
            `core/labels.py` describes.
        probabilities: `(n, c)`, rows summing to 1 unless pictures have several labels. Ties name the first class.
        classes: The c names.
        seed: Of the bootstrap.
        thresholds: `(c,)`, from which probability on a label is given, where pictures have several; None is 0.5.
        units: int `(n,)`, equal for pictures that are the same, nearly the same or of one group; None where that is not
            known.

    Raises:
        DataError: There is no picture, shapes do not fit, or the numbers are no probabilities.
    """
    if np.ndim(targets) == 2:
        from headstart.core.labels import evaluate_labels

        return evaluate_labels(targets, probabilities, classes, thresholds=thresholds, seed=seed, units=units)
    targets, probabilities = np.asarray(targets, np.int64), np.asarray(probabilities)
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype(np.float64)
    _check(targets, probabilities, len(classes))
    n, c = probabilities.shape
    named = probabilities.argmax(axis=1)
    right = named == targets
    confusion = np.bincount(targets * c + named, minlength=c * c).reshape(c, c)
    per_class = _per_class(targets, named, confusion, units)
    figures = {
        "accuracy": Figure(*proportion(right, units)),
        "balanced_accuracy": balanced_figure(targets, right, units),
        "macro_f1": _macro_f1_figure(confusion, n / effective_size(right, units), np.random.default_rng(seed)),
    }
    own = probabilities[np.arange(n), targets]
    if c > 5:
        # A class is among the first five when fewer than five others are surer.
        figures["top5_accuracy"] = Figure(*proportion((probabilities > own[:, None]).sum(axis=1) < 5, units))
    # As in scikit-learn: a probability of 0 counts as the smallest step from 1 of its float type.
    tiny = float(np.finfo(own.dtype).eps)
    losses = -np.log(np.clip(own.astype(np.float64), tiny, 1.0))
    figures["log_loss"] = Figure(*mean_loss(losses, loss_if_wrong(probabilities, tiny), -math.log(tiny), units))
    many = None if units is None else len(np.unique(units))
    majority = float(confusion.sum(axis=1).max() / n)
    return Evaluation(n, tuple(classes), figures, per_class, confusion, majority, many)


def mean_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the figures of repeated cross-validation: means over the repeats, all else from the first.

    An interval is the mean of the repeats' intervals, since repeats share their pictures and do not make them more.
    """
    figures = {
        name: Figure(
            *(float(np.mean([getattr(e.figures[name], end) for e in evaluations])) for end in ("value", "low", "high"))
        )
        for name in evaluations[0].figures
    }
    return replace(evaluations[0], figures=figures)


def balanced_figure(targets: np.ndarray, right: np.ndarray, units: np.ndarray | None = None) -> Figure:
    """Return the mean recall over the classes that occur (Brodersen et al. 2010), each at its effective size.

    Args:
        targets: int `(n,)`.
        right: bool `(n,)`.
        units: As for `evaluate`.
    """
    support, hits = np.bincount(targets), np.bincount(targets[right], minlength=int(targets.max()) + 1)
    sizes = support.astype(np.float64)
    if units is not None and len(np.unique(units)) < len(units):
        inside = [np.flatnonzero(targets == index) for index in range(len(support))]
        sizes = np.array([effective_size(right[rows], units[rows]) if len(rows) else 0.0 for rows in inside])
    return Figure(*mean_of_proportions(hits * sizes / np.maximum(support, 1), sizes))


def macro_f1(right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that occur or are named, as scikit-learn computes it.

    Args:
        right: `(…, c)`, pictures of each class that were named right.
        support: `(…, c)`, pictures of each class.
        predicted: `(…, c)`, how often each class was named.
    """
    both = support + predicted
    f1 = (2 * right / np.maximum(both, 1)).sum(axis=-1)
    return np.asarray(f1 / np.maximum((both > 0).sum(axis=-1), 1))


def _per_class(
    targets: np.ndarray, named: np.ndarray, confusion: np.ndarray, units: np.ndarray | None
) -> tuple[ClassFigures, ...]:
    rows = []
    for index, (right, support, predicted) in enumerate(
        zip(np.diag(confusion).tolist(), confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), strict=True)
    ):
        precision, recall = (
            Figure(*proportion(other[inside] == index, None if units is None else units[inside]))
            for other, inside in ((targets, named == index), (named, targets == index))
        )
        rows.append(ClassFigures(precision, recall, 2 * right / max(1, support + predicted), support, predicted))
    return tuple(rows)


def _macro_f1_figure(confusion: np.ndarray, design_effect: float, rng: np.random.Generator) -> Figure:
    """Return macro F1 with its interval, its variance times the design effect of accuracy.

    Resampled is the confusion matrix, each cell that occurs by itself from a Poisson distribution (Hanley and MacGibbon
    2006, doi:10.1016/j.cmpb.2006.04.006): what that does to the total does not matter to F1, and it costs the same for
    any number of pictures.
    """
    support, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    value = float(macro_f1(hits, support, predicted))
    rows, columns = np.nonzero(confusion)
    counts, diagonal = confusion[rows, columns], rows == columns
    resamples, found = resamples_for(len(counts)), []
    at_once = max(1, 4_000_000 // len(counts))
    for start in range(0, resamples, at_once):
        drawn = rng.poisson(counts, (min(at_once, resamples - start), len(counts)))
        right = np.zeros((len(drawn), len(confusion)))
        right[:, rows[diagonal]] = drawn[:, diagonal]
        found.append(macro_f1(right, _sums(drawn, rows, len(confusion)), _sums(drawn, columns, len(confusion))))
    occurring = support[support > 0]
    size = len(occurring) ** 2 / float((1 / occurring).sum())
    variance = float(np.concatenate(found).var()) * design_effect
    return Figure(value, *from_variance(value, variance, size / design_effect))


def _sums(drawn: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the sums of the columns of `drawn` by group, `(len(drawn), count)`."""
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    out = np.zeros((len(drawn), count), drawn.dtype)
    out[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return out


def _check(targets: np.ndarray, probabilities: np.ndarray, c: int) -> None:
    if probabilities.ndim != 2 or probabilities.shape != (len(targets), c):
        raise DataError(f"probabilities have shape {probabilities.shape}; ({len(targets)}, {c}) was expected.")
    if not len(targets):
        raise DataError("there is no picture to evaluate on. Give at least one.")
    if not np.isfinite(probabilities).all():
        raise DataError("some probabilities are not numbers. The model is damaged; fit it again.")
    if targets.min() < 0 or targets.max() >= c:
        raise DataError(f"targets run from {targets.min()} to {targets.max()}; 0 to {c - 1} was expected.")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    off = int(np.abs(sums - 1).argmax())
    if probabilities.min() < 0 or abs(sums[off] - 1) > 0.01:
        raise DataError(
            f"row {off} of the probabilities sums to {sums[off]:.3g}, and the smallest of all is "
            f"{probabilities.min():.3g}; rows from 0 up that sum to 1 were expected. Give probabilities, not logits."
        )
