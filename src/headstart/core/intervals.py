"""95 % intervals of proportions and means. numpy only."""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 2000
# Random draws that an interval may take: with very many pictures the resamples become fewer, never below 200.
DRAWS = 40_000_000


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927; Newcombe 1998, method 3).

    Args:
        successes: How many of the n; a fraction where n is an effective sample size.
        n: Sample size; 0 gives the interval from 0 to 1.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and 1 the exact end is 0 or 1, which rounding may miss by a digit.
    return (0.0 if p <= 0 else max(0.0, middle - half)), (1.0 if p >= 1 else min(1.0, middle + half))


def mean_of_proportions(successes: np.ndarray, sizes: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of independent proportions, and the ends of its 95 % interval.

    A Wilson interval at the effective sample size, the size at which one proportion would vary as much as this mean
    does; this is how stratified surveys are treated (Franco et al. 2019, doi:10.1093/jssam/smy019). For its variance
    each proportion is drawn towards the pooled one by two imagined observations, so that a stratum of one, or one
    without a miss, does not count as certain. In simulation (20 to 600 pictures, 2 to 200 classes, accuracies from 0.7
    to 0.99) it held the truth in 89 to 100 % of the samples, 95 % on average; the percentile bootstrap in as few as
    31 %, because resampling pictures that are all named right can only give all right.

    Args:
        successes: `(k,)`, successes of each proportion.
        sizes: `(k,)`, sample size of each; those of 0 are left out.
    """
    there = sizes > 0
    successes, sizes = successes[there].astype(float), sizes[there].astype(float)
    pooled = (successes.sum() + 1) / (sizes.sum() + 2)
    drawn = (successes + 2 * pooled) / (sizes + 2)
    variance = (drawn * (1 - drawn) / sizes).sum() / len(sizes) ** 2
    size = float(drawn.mean() * (1 - drawn.mean()) / variance)
    mean = float((successes / sizes).mean())
    return mean, *wilson(mean * size, size)


def from_variance(value: float, variance: float, size: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a figure in [0, 1] at its effective sample size.

    Args:
        value: The figure.
        variance: Its sampling variance, such as the bootstrap's.
        size: Effective sample size where the figure is 0 or 1 and the variance therefore tells nothing.
    """
    effective = value * (1 - value) / variance if variance > 0 and 0 < value < 1 else size
    return wilson(value * effective, effective)


def paired_difference(only_first: float, only_second: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two proportions on the same n, second minus first.

    Wald's interval after one imagined observation in each discordant cell (Bonett and Price 2012, Journal of
    Educational and Behavioral Statistics 37:479-488, doi:10.3102/1076998611411915); Wald's own is empty where the two
    never differ.

    Args:
        only_first: How often the first alone succeeds; a fraction where n is an effective sample size.
        only_second: How often the second alone does.
        n: Sample size, from 1.
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    difference = second - first
    half = Z95 * math.sqrt((first + second - difference**2) / (n + 2))
    return max(-1.0, difference - half), min(1.0, difference + half)


def effective_size(right: np.ndarray, units: np.ndarray | None) -> float:
    """Return how many independent pictures tell as much of a share as these, of which some belong together.

    The size over the design effect, which is the variance between units (clusters of survey sampling; Cochran 1977,
    Sampling Techniques, section 9A) over that of independent pictures; a Wilson interval at this size is among those
    that Dean and Pagano (2015, Journal of Survey Statistics and Methodology 3:484-503) found to hold. For the variance
    one unit of average size that is all right and one that is all wrong are imagined, so that units with hardly a miss
    are not taken for independent. Where all are alike each unit counts as one picture (of unequal units
    fewer: Kish 1965, Survey Sampling, section 11.7). In simulation (5 to 100 units of 2, 8 or 1 to 10 pictures, shares
    from 0.8 to 0.99, correlations in a unit from 0 to 1) the interval held the truth in 87 to 100 % of the samples;
    counting pictures, in as few as 32 %.

    Args:
        right: bool or float from 0 to 1, `(n,)`.
        units: int `(n,)`, equal for pictures that belong together; None where all are independent.
    """
    n = len(right)
    found = _together(units)
    if found is None:
        return float(n)
    unit, sizes = found
    average = float((sizes**2).sum()) / n  # of the unit that a picture is in
    values = right.astype(np.float64)
    if values.min() == values.max():
        return n / average
    whole = n + 2 * average
    share = (float(values.sum()) + average) / whole
    imagined = (1 - share) ** 2 + share**2
    alone = float(((values - share) ** 2).sum()) + average * imagined
    off = np.bincount(unit, values) - sizes * share
    together = float((off**2).sum()) + average**2 * imagined
    count = len(sizes) + 2
    return float(min(n, max(n / average, whole * alone / together * (count - 1) / count)))


def proportion(right: np.ndarray, units: np.ndarray | None = None) -> tuple[float, float, float]:
    """Return the share of what is right, and its 95 % Wilson interval at `effective_size`; nothing gives 0, 0, 1.

    Args:
        right: bool `(n,)`.
        units: As for `effective_size`.
    """
    if not len(right):
        return 0.0, 0.0, 1.0
    share, size = float(right.mean()), effective_size(right, units)
    return share, *wilson(share * size, size)


def mean_loss(
    losses: np.ndarray, imagined: float, largest: float, units: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Return the mean of losses, and its 95 % interval.

    The losses of a good model are small but for a few, and a small sample may hold none of those: nothing in it tells
    how large they are, so that neither the percentile bootstrap nor bootstrap-t can know. Hence one more picture is
    imagined, that is named wrong, as Agresti and Coull (1998, The American Statistician 52:119-126) add imagined
    observations to a proportion. The interval is the normal one of the logarithm (losses are positive and skewed), its
    variance and its upper end with the imagined picture, its lower end around the mean itself. In simulation (10 to 500
    pictures, 2 and 10 classes, accuracies from 0.84 to 0.99, probabilities from too modest to far too sure) it held the
    truth in 88 to 99 % of the samples, the percentile bootstrap in as few as 9 % (docs/experiments.md).

    Args:
        losses: float `(n,)`, not negative.
        imagined: Loss of the imagined picture, see `loss_if_wrong`.
        largest: Largest possible loss: the upper end where there is one picture alone.
        units: As for `effective_size`; the imagined picture then is a unit of average size.
    """
    n, value = len(losses), float(losses.mean())
    unit, sizes = _together(units) or (np.arange(n), np.ones(n))
    if len(sizes) == 1:
        return value, 0.0, largest
    average = float((sizes**2).sum()) / n
    above = (float(losses.sum()) + average * imagined) / (n + average)
    off = np.bincount(unit, losses) - sizes * above
    squares = float((off**2).sum()) + (average * (imagined - above)) ** 2
    count = len(sizes) + 1
    error = math.sqrt(squares * count / (count - 1)) / (n + average)
    low = value * math.exp(-Z95 * error / value) if value > 0 else 0.0
    # The exponent is cut where the end is past the largest loss anyway.
    high = above * math.exp(min(50.0, Z95 * error / above)) if above > 0 else 0.0
    return value, low, max(value, min(largest, high))


def loss_if_wrong(probabilities: np.ndarray, tiny: float) -> float:
    """Return the mean log loss of the pictures that are named wrong, if each happens as often as the model says.

    Args:
        probabilities: `(n, c)`, rows summing to 1.
        tiny: A smaller probability counts as this one.
    """
    others = probabilities.astype(np.float64)
    others[np.arange(len(others)), others.argmax(axis=1)] = 0.0
    chance = float(others.sum())
    return float((others * -np.log(np.maximum(others, tiny))).sum()) / chance if chance > 0 else -math.log(tiny)


def _together(units: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the number of each picture's unit, from 0, and the sizes of the units; None where all are of one."""
    if units is None:
        return None
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    return None if len(sizes) == len(unit) else (unit, sizes.astype(np.float64))


def resamples_for(draws: int) -> int:
    """Return how many resamples of so many draws each are taken."""
    return min(RESAMPLES, max(200, DRAWS // draws))
