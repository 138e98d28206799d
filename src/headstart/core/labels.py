"""How good a classifier is that gives a picture several labels, or none. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from headstart.core.calibration import THRESHOLD
from headstart.core.errors import DataError, SettingError
from headstart.core.intervals import effective_size, from_variance, mean_loss, proportion, resamples_for
from headstart.core.metrics import ClassFigures, Evaluation, Figure, macro_f1

# With fewer pictures of a label a threshold would be noise.
MIN_FOR_THRESHOLD = 5
TINY = float(np.finfo(np.float32).eps)


def refuse_several_labels(output: object, what: str) -> None:
    """Raise SettingError where a model or a setting gives several labels a picture and `what` needs one class.

    Args:
        output: `output` of the classifier or of `model.json`.
        what: What cannot be done, such as `int8`.
    """
    if output == "multilabel":
        raise SettingError(
            f"{what} needs one class for each picture, and output is 'multilabel'. What works with several labels: "
            "heads linear and mlp; fit, predict, evaluate, compare, report, check and exports but int8 "
            "(docs/multi-label.md)."
        )


def evaluate_labels(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    thresholds: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    units: np.ndarray | None = None,
) -> Evaluation:
    """Return the figures of probabilities on pictures with several labels.

    `mean_average_precision` (the mean over the labels that occur of scikit-learn's `average_precision_score`) needs no
    threshold; `micro_f1`, `macro_f1`, `exact_match` (the share of pictures with all labels right, scikit-learn's
    `accuracy_score`) and `hamming_loss` (the share of wrong entries) are at the thresholds; `log_loss` is the mean
    binary cross-entropy of an entry.

    Intervals: exact match, precision and recall have Wilson's; log loss has that of `core/intervals.mean_loss`, whose
    imagined picture has one entry wrong; the others are Wilson intervals at the effective sample size that the
    bootstrap over pictures (Efron and Tibshirani 1993) gives, as for macro F1 in `core/metrics.py`: the percentile
    bootstrap of a figure of 1 has no width. Where pictures belong together, their units are resampled whole.

    Args:
        labels: bool `(n, c)`, which labels each picture has.
        probabilities: `(n, c)`, each from 0 to 1; rows need not sum to 1.
        classes: The c names.
        thresholds: `(c,)`, from which probability on a label is given; None is 0.5 for each.
        seed: Of the bootstrap.
        units: As for `core/metrics.evaluate`.

    Raises:
        DataError: There is no picture, shapes do not fit, or the numbers are no probabilities.
    """
    truth, scores = np.asarray(labels, bool), np.asarray(probabilities, np.float64)
    _check(truth, scores, len(classes))
    cuts = np.full(len(classes), THRESHOLD) if thresholds is None else np.asarray(thresholds, np.float64)
    named = scores >= cuts
    n, c = truth.shape
    support, predicted, hits = truth.sum(axis=0), named.sum(axis=0), (truth & named).sum(axis=0)
    right, wrong = (truth == named).all(axis=1), (truth != named).mean(axis=1)
    drawn = _resampled(truth, named, scores, wrong, units, np.random.default_rng(seed))
    occurring = support[support > 0]
    # Where a figure is 0 or 1 its bootstrap tells nothing: then each label's pictures count.
    alike = effective_size(np.ones(n), units)  # of n pictures whose units are all right
    size = len(occurring) ** 2 / float((1 / occurring).sum()) * alike / n if len(occurring) else 0.0
    values = {
        "mean_average_precision": (mean_average_precision(truth, scores), size),
        "micro_f1": (_micro_f1(hits, support, predicted), alike),
        "macro_f1": (float(macro_f1(hits, support, predicted)), size),
        "hamming_loss": (float(wrong.mean()), alike),
    }
    figures = {name: _figure(value, drawn[name], at) for name, (value, at) in values.items()}
    figures["exact_match"] = Figure(*proportion(right, units))
    losses = log_losses(truth, scores)
    figures["log_loss"] = Figure(*mean_loss(losses, _loss_if_wrong(losses, scores), -math.log(TINY), units))
    precision = average_precision(truth, scores)
    rows = [
        _class_figures(truth[:, i], named[:, i], units, at, drawn["average_precision"][:, i], cut)
        for i, (at, cut) in enumerate(zip(precision.tolist(), cuts.tolist(), strict=True))
    ]
    confusion = np.stack([n - support - predicted + hits, predicted - hits, support - hits, hits], axis=1)
    counts = np.unique(truth, axis=0, return_counts=True)[1]
    many = None if units is None else len(np.unique(units))
    majority = float(counts.max() / n)
    return Evaluation(n, tuple(classes), figures, tuple(rows), confusion.reshape(c, 2, 2), majority, many)


def _class_figures(
    truth: np.ndarray,
    named: np.ndarray,
    units: np.ndarray | None,
    precision: float,
    drawn: np.ndarray,
    threshold: float,
) -> ClassFigures:
    """Return the figures of one label, given its average precision and what the bootstrap drew of it."""
    hits, support, predicted = int((truth & named).sum()), int(truth.sum()), int(named.sum())

    def share(right: np.ndarray, inside: np.ndarray) -> Figure:
        return Figure(*proportion(right[inside], None if units is None else units[inside]))

    at_one = effective_size(np.ones(support), None if units is None else units[truth]) if support else 0.0
    return ClassFigures(
        share(truth, named),
        share(named, truth),
        2 * hits / max(1, support + predicted),
        support,
        predicted,
        _figure(precision, drawn, at_one) if support else Figure(0.0, 0.0, 1.0),
        threshold,
    )


def _loss_if_wrong(losses: np.ndarray, scores: np.ndarray) -> float:
    """Return the loss of a picture with one entry wrong that is as often wrong as the model says, the others usual."""
    wrong = np.minimum(scores, 1 - scores)
    chance, surprise = float(wrong.sum()), -np.log(np.maximum(wrong, TINY))
    entry = float((wrong * surprise).sum()) / chance if chance > 0 else -math.log(TINY)
    return float(losses.mean()) + entry / int(scores.shape[1])


def baselines(evaluation: Evaluation) -> dict[str, float]:
    """Return what can be reached by knowing only how frequent labels are, by the name of the figure.

    `mean_average_precision` of pictures in random order (the share of them that have a label, the mean over the labels
    that occur), `macro_f1` of giving every label to every picture (Lipton et al. 2014), `exact_match` of always giving
    the most frequent combination.
    """
    shares = np.array([one.support for one in evaluation.per_class]) / evaluation.n
    occurring = shares[shares > 0]
    return {
        "mean_average_precision": float(occurring.mean()) if len(occurring) else 0.0,
        "macro_f1": float((2 * shares / (1 + shares)).mean()),
        "exact_match": evaluation.majority,
    }


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the average precision of each label: the mean precision at each picture that has it, ties together.

    `sum_k (R_k - R_(k-1)) P_k` over the distinct scores, not interpolated, as in scikit-learn.

    Args:
        labels: bool `(n, c)`.
        scores: float `(n, c)`.
        weights: `(b, n)`, how often each picture counts in each of b resamples; None counts each once.

    Returns:
        float64 `(c,)` or `(b, c)`; not a number where no picture has the label.
    """
    counts = np.ones((1, len(labels))) if weights is None else weights.astype(np.float64)
    found = np.empty((len(counts), labels.shape[1]))
    for label in range(labels.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")
        falling = -scores[order, label]
        last = np.searchsorted(falling, falling, side="right") - 1  # of those with the same score
        ordered = counts[:, order]
        own = ordered * labels[order, label]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = (np.cumsum(own, axis=1) / np.cumsum(ordered, axis=1))[:, last]
            found[:, label] = np.where(own > 0, own * precision, 0).sum(axis=1) / own.sum(axis=1)
    return found[0] if weights is None else found


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of `average_precision` over the labels that some picture has; 0 where none has any."""
    return float(_means(average_precision(labels, scores)[None])[0])


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the mean binary cross-entropy of each picture's entries, float64 `(n,)`.

    Args:
        labels: bool `(n, c)`.
        probabilities: `(n, c)`; 0 and 1 count as the smallest step of float32 from there.
    """
    inside = np.clip(np.asarray(probabilities, np.float64), TINY, 1 - TINY)
    return np.asarray(-np.where(labels, np.log(inside), np.log1p(-inside)).mean(axis=1))


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return from which probability on each label is given, float64 `(c,)`: where F1 on held-out pictures is highest.

    Between two neighbouring probabilities; of equally good ones the nearest to 0.5. A label of fewer than
    `MIN_FOR_THRESHOLD` pictures keeps 0.5. (Lipton et al. 2014, arXiv:1402.1892, on thresholds that maximise F1: where
    probabilities tell nothing, the best threshold gives the label to every picture.)

    Args:
        labels: bool `(n, c)`, of pictures that the model has not seen.
        probabilities: `(n, c)`.
    """
    chosen = np.full(labels.shape[1], THRESHOLD)
    for label in np.flatnonzero(labels.sum(axis=0) >= MIN_FOR_THRESHOLD):
        order = np.argsort(-probabilities[:, label], kind="stable")
        scores = probabilities[order, label].astype(np.float64)
        own = labels[order, label]
        f1 = 2 * np.cumsum(own) / (np.arange(1, len(own) + 1) + own.sum())
        cuts = (scores + np.append(scores[1:], 0.0)) / 2
        possible = np.append(scores[1:] < scores[:-1], scores[-1] > 0)
        if possible.any():
            best = np.flatnonzero(possible & (f1 >= f1[possible].max() - 1e-12))
            chosen[label] = cuts[best[np.abs(cuts[best] - THRESHOLD).argmin()]]
    return chosen


def paired_bootstrap(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, seed: int = 0, units: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the difference of two mean average precisions on the same pictures (second minus first) and its p-value.

    The paired bootstrap over pictures (Efron and Tibshirani 1993, chapter 16): two-sided, twice the smaller share of
    resamples on one side of no difference, each resample counted once more so that p is never 0.

    Args:
        labels: bool `(n, c)`.
        first: Probabilities `(n, c)` of the first classifier.
        second: The same of the second.
        seed: Of the resamples.
        units: As for `core/metrics.evaluate`.
    """
    truth = np.asarray(labels, bool)
    value = mean_average_precision(truth, second) - mean_average_precision(truth, first)
    drawn = np.concatenate(
        [
            _means(average_precision(truth, second, weights)) - _means(average_precision(truth, first, weights))
            for weights in _weights(truth, units, np.random.default_rng(seed))
        ]
    )
    drawn = drawn[np.isfinite(drawn)]
    tails = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return value, min(1.0, 2 * (tails + 1) / (len(drawn) + 1))


def _resampled(
    truth: np.ndarray,
    named: np.ndarray,
    scores: np.ndarray,
    wrong: np.ndarray,
    units: np.ndarray | None,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return every figure in each resample of the pictures."""
    parts: dict[str, list[np.ndarray]] = {}
    both = (truth & named).astype(np.float64)
    for weights in _weights(truth, units, rng):
        precision = average_precision(truth, scores, weights)
        hits, support, predicted = weights @ both, weights @ truth, weights @ named
        found = {
            "average_precision": precision,
            "mean_average_precision": _means(precision),
            "macro_f1": macro_f1(hits, support, predicted),
            "micro_f1": 2 * hits.sum(axis=1) / np.maximum((support + predicted).sum(axis=1), 1),
            "hamming_loss": weights @ wrong / weights.sum(axis=1),
        }
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _weights(truth: np.ndarray, units: np.ndarray | None, rng: np.random.Generator) -> list[np.ndarray]:
    """Return how often each picture is drawn in each resample, a few resamples `(b, n)` at a time."""
    n, c = truth.shape
    resamples, at_once = resamples_for(n * c), max(1, 1_000_000 // n)
    unit = np.arange(n) if units is None else np.unique(units, return_inverse=True)[1]
    count = int(unit.max()) + 1
    return [
        rng.multinomial(count, np.full(count, 1 / count), min(at_once, resamples - start)).astype(np.uint16)[:, unit]
        for start in range(0, resamples, at_once)
    ]


def _figure(value: float, drawn: np.ndarray, size: float) -> Figure:
    return Figure(value, *from_variance(value, float(np.nanvar(drawn)), size))


def _micro_f1(hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> float:
    return float(2 * hits.sum() / max(1, int(support.sum() + predicted.sum())))


def _means(precision: np.ndarray) -> np.ndarray:
    """Return the mean over the labels that occur, of `(b, c)`; 0 where none does."""
    there = np.isfinite(precision)
    return np.asarray(np.where(there, precision, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def _check(labels: np.ndarray, probabilities: np.ndarray, c: int) -> None:
    if labels.ndim != 2 or labels.shape != probabilities.shape or labels.shape[1] != c:
        raise DataError(
            f"labels have shape {labels.shape} and probabilities {probabilities.shape}: give both as (pictures, {c})."
        )
    if not len(labels):
        raise DataError("there is no picture to evaluate on. Give at least one.")
    if not np.isfinite(probabilities).all() or probabilities.min() < 0 or probabilities.max() > 1:
        raise DataError("some probabilities are no numbers from 0 to 1. Give probabilities, not logits.")
