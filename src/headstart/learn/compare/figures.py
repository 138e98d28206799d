"""How good held-out pictures say a choice is: accuracy or, with several labels a picture, mean average precision.

Average precision is that of a fold, and the mean over the folds is told: scores of differently fitted heads are not put
into one order (Forman and Scholz 2010, SIGKDD Explorations 12:49-57).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.core.intervals import Z95, effective_size, from_variance, wilson
from headstart.core.labels import log_losses, mean_average_precision
from headstart.core.metrics import Figure

# Of the held-out pictures of a fold: their classes int64 `(m,)` or labels bool `(m, c)`, and probabilities `(m, c)`.
Judged = tuple[np.ndarray, np.ndarray]


def fold_scores(judged: Sequence[Judged]) -> np.ndarray:
    """Return the accuracy, or the mean average precision, of each fold, float64 `(J,)`."""
    return np.array([mean_average_precision(y, said) if y.ndim == 2 else _accuracy(y, said) for y, said in judged])


def log_loss(judged: Sequence[Judged]) -> float:
    """Return the mean log loss of all held-out pictures; of several labels the binary one of an entry."""
    losses = [log_losses(y, said) if y.ndim == 2 else _log_losses(y, said) for y, said in judged]
    return float(np.concatenate(losses).mean())


def right_by_repeat(judged: Sequence[Judged], held_out: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return which of n pictures each repeat of cross-validation named right, bool `(repeats, n)`.

    Args:
        judged: What was said of each fold's pictures, repeat after repeat.
        held_out: Which pictures these are.
        n: Pictures; each repeat holds out each of them once.
    """
    named = np.concatenate([said.argmax(axis=1) == y for y, said in judged]).reshape(-1, n)
    rows = np.concatenate(held_out).reshape(-1, n)
    return np.take_along_axis(named, np.argsort(rows, axis=1), axis=1)


def accuracy_over_repeats(right: np.ndarray, units: np.ndarray | None = None) -> Figure:
    """Return the accuracy over repeated cross-validation with its 95 % interval.

    The Wilson interval of n pictures: repeats judge the same pictures again. In simulation (60 to 245 pictures, 5 x 5
    folds) it held the accuracy on new pictures of the model fitted on all n in 95 % of the runs. Where pictures belong
    together it is that of their effective size.

    Args:
        right: bool `(repeats, n)`, which pictures each repeat named right.
        units: int `(n,)`, equal for pictures that belong together; None where all are independent.
    """
    accuracy, size = float(right.mean()), effective_size(right.mean(axis=0), units)
    return Figure(accuracy, *wilson(accuracy * size, size))


def precision_over_folds(scores: np.ndarray, test_share: float, support: np.ndarray) -> Figure:
    """Return the mean of the folds' mean average precision with its 95 % interval.

    The variance of the mean is Nadeau and Bengio's, as in `core/significance.corrected_t_test`, with the quantile of
    Student's t; the interval is Wilson's at that variance, so that it stays between 0 and 1. How often it held the
    truth in simulation stands in docs/decisions/0010-compare.md.

    Args:
        scores: `(J,)`, of each fold, at least two.
        test_share: Held-out over training pictures of a fold.
        support: `(c,)`, pictures of each label: where all folds are perfect, these tell how sure that is.
    """
    from scipy.special import stdtrit

    count = len(scores)
    wider = (float(stdtrit(count - 1, 0.975)) / Z95) ** 2
    variance = (1 / count + test_share) * float(scores.var(ddof=1)) * wider
    occurring = support[support > 0]
    size = len(occurring) ** 2 / float((1 / occurring).sum())
    value = float(scores.mean())
    return Figure(value, *from_variance(value, variance, size))


def _accuracy(targets: np.ndarray, probabilities: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == targets).mean())


def _log_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    own = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return np.asarray(-np.log(np.maximum(own, np.finfo(np.float32).eps)))
