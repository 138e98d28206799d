"""How good a classifier is, each figure with its 95 % interval. numpy only: predicting must stay light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.core.errors import DataError
from headstart.core.intervals import bootstrap_mean, from_variance, mean_of_proportions, resamples_for, wilson
from headstart.core.text import count

__all__ = ["ClassFigures", "Evaluation", "Figure", "balanced_accuracy", "evaluate", "macro_f1", "mcnemar", "wilson"]


@dataclass(frozen=True)
class Figure:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


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
    """

    n: int
    classes: tuple[str, ...]
    figures: dict[str, Figure]
    per_class: tuple[ClassFigures, ...]
    confusion: np.ndarray
    majority: float

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
        return cls(values["n"], tuple(values["classes"]), figures, per_class, confusion, values["majority"])

    def sentence(self) -> str:
        """Return the headline for people."""
        pictures = count(self.n, "picture")
        if self.several_labels:
            precision = self.figures["mean_average_precision"]
            return (
                f"mean average precision {precision.value:.3f} on {pictures} (95 % interval {precision.low:.3f} to "
                f"{precision.high:.3f}); {self.figures['exact_match'].value:.3f} have all labels right"
            )
        accuracy = self.figures["accuracy"]
        return (
            f"{accuracy.value:.3f} of {pictures} named right (95 % interval {accuracy.low:.3f} to "
            f"{accuracy.high:.3f}); always naming the most frequent class gives {self.majority:.3f}"
        )


def evaluate(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int = 0,
    majority_class: int | None = None,
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> Evaluation:
    """Return the figures of probabilities on pictures with known classes, or with several labels each.

    Proportions have Wilson intervals; balanced accuracy and macro F1 have Wilson intervals at their effective sample
    size (see `core/intervals.py`), the variance of macro F1 coming from the bootstrap; log loss has a percentile
    bootstrap interval.

    Args:
        targets: int `(n,)`, indices into `classes`; or bool `(n, c)`, several labels a picture, whose figures
            `core/labels.py` describes.
        probabilities: `(n, c)`, rows summing to 1 unless pictures have several labels. Ties name the first class.
        classes: The c names.
        seed: Of the bootstrap.
        majority_class: The class that `majority` always names, such as the most frequent one in training; None takes
            the most frequent one of these pictures.
        thresholds: `(c,)`, from which probability on a label is given, where pictures have several; None is 0.5.

    Raises:
        DataError: There is no picture, shapes do not fit, or the numbers are no probabilities.
    """
    if np.ndim(targets) == 2:
        from headstart.core.labels import evaluate_labels

        return evaluate_labels(targets, probabilities, classes, thresholds=thresholds, seed=seed)
    targets, probabilities = np.asarray(targets, np.int64), np.asarray(probabilities)
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype(np.float64)
    _check(targets, probabilities, len(classes))
    n, c = probabilities.shape
    confusion = np.bincount(targets * c + probabilities.argmax(axis=1), minlength=c * c).reshape(c, c)
    support, hits = confusion.sum(axis=1), np.diag(confusion)
    right = int(hits.sum())
    rng = np.random.default_rng(seed)
    figures = {
        "accuracy": Figure(right / n, *wilson(right, n)),
        "balanced_accuracy": Figure(*mean_of_proportions(hits, support)),
        "macro_f1": _macro_f1_figure(confusion, rng),
    }
    own = probabilities[np.arange(n), targets]
    if c > 5:
        # A class is among the first five when fewer than five others are surer.
        top5 = int(((probabilities > own[:, None]).sum(axis=1) < 5).sum())
        figures["top5_accuracy"] = Figure(top5 / n, *wilson(top5, n))
    # As in scikit-learn: a probability of 0 counts as the smallest step from 1 of its float type.
    tiny = float(np.finfo(own.dtype).eps)
    losses = -np.log(np.clip(own.astype(np.float64), tiny, 1.0))
    figures["log_loss"] = Figure(float(losses.mean()), *bootstrap_mean(losses, -math.log(tiny), rng))
    majority = support.max() if majority_class is None else support[majority_class]
    return Evaluation(n, tuple(classes), figures, _per_class(confusion), confusion, float(majority / n))


def balanced_accuracy(right: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Return the mean recall over the classes that occur (Brodersen et al. 2010).

    Args:
        right: `(…, c)`, pictures of each class that were named right.
        support: `(…, c)`, pictures of each class.
    """
    recall = (right / np.maximum(support, 1)).sum(axis=-1)
    return np.asarray(recall / np.maximum((support > 0).sum(axis=-1), 1))


def macro_f1(right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that occur or are named, as scikit-learn computes it.

    Args:
        right: As in `balanced_accuracy`.
        support: As in `balanced_accuracy`.
        predicted: `(…, c)`, how often each class was named.
    """
    both = support + predicted
    f1 = (2 * right / np.maximum(both, 1)).sum(axis=-1)
    return np.asarray(f1 / np.maximum((both > 0).sum(axis=-1), 1))


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> tuple[float, float]:
    """Return the difference of two accuracies on the same pictures (b minus a) and the exact two-sided p-value.

    The exact binomial form of McNemar's test (1947), as Dietterich (1998) recommends for one test set: only the
    pictures that exactly one of the two names right count, and under "no difference" each falls like a coin.

    Args:
        correct_a: bool `(n,)`, which pictures the first classifier names right.
        correct_b: The same of the second.

    Raises:
        DataError: The two are not of the same pictures, or there is none.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(f"a paired test got answers of shapes {a.shape} and {b.shape}: give both on the same pictures.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    # Summed from logarithms, because 2**-discordant is 0 in floating point from 1,075 on.
    logs = [
        math.lgamma(discordant + 1) - math.lgamma(k + 1) - math.lgamma(discordant - k + 1) - discordant * math.log(2)
        for k in range(fewer + 1)
    ]
    return (only_b - only_a) / len(a), min(1.0, 2 * sum(map(math.exp, logs)))


def _per_class(confusion: np.ndarray) -> tuple[ClassFigures, ...]:
    rows = []
    for right, support, predicted in zip(
        np.diag(confusion).tolist(), confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), strict=True
    ):
        precision = Figure(right / predicted if predicted else 0.0, *wilson(right, predicted))
        recall = Figure(right / support if support else 0.0, *wilson(right, support))
        rows.append(ClassFigures(precision, recall, 2 * right / max(1, support + predicted), support, predicted))
    return tuple(rows)


def _macro_f1_figure(confusion: np.ndarray, rng: np.random.Generator) -> Figure:
    """Return macro F1 with its interval.

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
    return Figure(value, *from_variance(value, float(np.concatenate(found).var()), size))


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
