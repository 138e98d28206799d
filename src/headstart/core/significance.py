"""Whether a difference is more than chance: tests of paired and unpaired results, and many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.core.errors import DataError
from headstart.core.intervals import Z95, effective_size, paired_difference

LEVEL = 0.05
# A permutation test tries all ways of turning the signs of so many changes (8,192 ways), and draws so many of more.
TRIED_UP_TO, DRAWN = 13, 10_000


@dataclass(frozen=True)
class Difference:
    """How much better a second choice scores than a first one.

    Attributes:
        value: Mean difference, second minus first.
        low, high: 95 % interval of the difference, not corrected for several comparisons; None where it is not known.
        standard_error: Of the mean difference; None where it is not known.
        p: Two-sided p-value of "there is no difference".
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    p: float

    @property
    def text(self) -> str:
        """The difference with its interval, such as `-0.012 (-0.030 to +0.006)`."""
        interval = "" if self.low is None else f" ({self.low:+.3f} to {self.high:+.3f})"
        return f"{self.value:+.3f}{interval}"


def corrected_t_test(first: np.ndarray, second: np.ndarray, test_share: float, folds: int) -> Difference:
    """Return the difference of two learners' scores over repeated cross-validation, tested.

    The corrected resampled t-test of Nadeau and Bengio (2003, Machine Learning 52:239-281, section 3, equation 9), for
    repeated cross-validation as Bouckaert and Frank (2004, PAKDD, LNCS 3056:3-12) recommend it: folds share their
    training pictures, so that the plain t-test finds differences that are not there; the variance of the mean is
    `(1 / J + n_test / n_train) * s²` for J scores, with J - 1 degrees of freedom.

    Where all scores differ by the same amount there is no variance to test with. Then the sign test (Dixon and Mood
    1946) over the folds of one repeat, which share no test picture, gives the p-value, and there is no interval: see
    `by_pictures`.

    Args:
        first: float `(J,)`, scores by fold.
        second: The same of the other learner on the same folds.
        test_share: `n_test / n_train` of a fold.
        folds: Folds of one repeat.

    Raises:
        DataError: The scores are not of the same folds, or of fewer than two.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise DataError(
            f"a paired test got scores of shapes {a.shape} and {b.shape}: give both on the same folds, at least two."
        )
    from scipy.special import stdtr, stdtrit

    differences = b - a
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread <= 1e-12:  # rounding of scores that differ by the same everywhere
        p = 1.0 if abs(mean) <= 1e-12 else min(1.0, 2 * 0.5**folds)
        return Difference(mean, None, None, None, p)
    error = spread * math.sqrt(1 / len(a) + test_share)
    freedom = len(a) - 1
    half = float(stdtrit(freedom, 0.975)) * error
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, error, min(1.0, p))


def by_pictures(difference: Difference, first: np.ndarray, second: np.ndarray, units: np.ndarray | None) -> Difference:
    """Return a difference of accuracies whose folds have no variance with the interval that its pictures give.

    That of Bonett and Price for paired proportions (`core/intervals.paired_difference`), at the effective size where
    pictures belong together; half its width over 1.96 stands for the standard error.

    Args:
        difference: Of `corrected_t_test`.
        first: float `(n,)`, in which share of the repeats the first choice names each picture right.
        second: The same of the other.
        units: int `(n,)`, equal for pictures that belong together; None where all are independent.
    """
    n, change = len(first), second - first
    size = effective_size((change + 1) / 2, units)
    only_first, only_second = (float(np.maximum(sign * change, 0).sum()) * size / n for sign in (-1, 1))
    low, high = paired_difference(only_first, only_second, size)
    return replace(difference, low=low, high=high, standard_error=(high - low) / 2 / Z95)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray, units: np.ndarray | None = None) -> tuple[float, float]:
    """Return the difference of two accuracies on the same pictures (b minus a) and the exact two-sided p-value.

    The exact binomial form of McNemar's test (1947), as Dietterich (1998) recommends for one test set: only the
    pictures that exactly one of the two names right count, and under "no difference" each falls like a coin. Where
    pictures belong together each unit falls like one coin, to the side that has more of its pictures: the sign test
    (Dixon and Mood 1946) over units.

    Args:
        correct_a: bool `(n,)`, which pictures the first classifier names right.
        correct_b: The same of the second.
        units: int `(n,)`, equal for pictures that belong together; None where all are independent.

    Raises:
        DataError: The two are not of the same pictures, or there is none.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(f"a paired test got answers of shapes {a.shape} and {b.shape}: give both on the same pictures.")
    change = b.astype(np.int64) - a
    unit = np.arange(len(a)) if units is None else np.unique(units, return_inverse=True)[1]
    sides = np.sign(np.bincount(unit, change))
    only_a, only_b = int((sides < 0).sum()), int((sides > 0).sum())
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    # Summed from logarithms, because 2**-discordant is 0 in floating point from 1,075 on.
    logs = [
        math.lgamma(discordant + 1) - math.lgamma(k + 1) - math.lgamma(discordant - k + 1) - discordant * math.log(2)
        for k in range(fewer + 1)
    ]
    return float(change.mean()), min(1.0, 2 * sum(map(math.exp, logs)))


def paired_permutation(change: np.ndarray, units: np.ndarray | None = None, seed: int = 0) -> float:
    """Return the two-sided p-value of "the changes fall to both sides alike", for changes that do not all count alike.

    The permutation test of paired differences (Fisher 1935, The Design of Experiments, section 21): under "no
    difference" the two answers to a picture can be exchanged, which turns the sign of its change. Where few pictures
    changed all ways of turning them are tried; else some are drawn, and what was observed counts as one more, so that p
    is never 0. Pictures that belong together turn as one.

    Args:
        change: float `(n,)`, how much better the second answer to each picture is than the first.
        units: int `(n,)`, equal for pictures that belong together; None where all are independent.
        seed: Of what is drawn.
    """
    unit = np.arange(len(change)) if units is None else np.unique(units, return_inverse=True)[1]
    sums = np.bincount(unit, change).astype(np.float64)
    sums = sums[np.abs(sums) > 1e-12]  # rounding of what cancels within a unit
    least = abs(float(sums.sum())) * (1 - 1e-9)
    if len(sums) <= TRIED_UP_TO:
        turned = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((1 - 2 * turned) @ sums) >= least).mean())
    rng, reached = np.random.default_rng(seed), 0
    for _ in range(DRAWN // 1000):
        reached += int((np.abs(rng.choice((-1.0, 1.0), (1000, len(sums))) @ sums) >= least).sum())
    return (reached + 1) / (DRAWN + 1)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values corrected for having looked m times, float64 `(m,)` in the same order.

    Holm's step-down procedure (1979, Scandinavian Journal of Statistics 6:65-70): with it the chance that any true "no
    difference" falls below 0.05 is at most 5 %, however the tests depend on each other.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def fisher_exact(right: int, n: int, other_right: int, other_n: int) -> float:
    """Return the two-sided p-value of "both shares are the same" for two groups of different pictures.

    Fisher's exact test (1935, The Design of Experiments): given how many are right in all, the hypergeometric chance of
    a table no more likely than this one.

    Args:
        right: How many are right in the first group.
        n: Size of the first group.
        other_right: How many are right in the second.
        other_n: Size of the second.
    """
    total, successes = n + other_n, right + other_right
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # of the factorials from 0 to total

    def choose(above: int, below: np.ndarray) -> np.ndarray:
        return np.asarray(logs[above] - logs[below] - logs[above - below])

    possible = np.arange(max(0, successes - other_n), min(n, successes) + 1)
    chances = np.exp(choose(n, possible) + choose(other_n, successes - possible) - choose(total, np.array(successes)))
    own = chances[right - possible[0]]
    return min(1.0, float(chances[chances <= own * (1 + 1e-7)].sum()))
