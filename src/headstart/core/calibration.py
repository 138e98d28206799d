"""What a probability is worth: calibration error, temperature, prediction sets with a stated coverage, false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.core.errors import DataError

BINS = 15
# From which probability on a label is given, where pictures have several and no other threshold was chosen.
THRESHOLD = 0.5
# How far, in the logarithm, a temperature strays from 1 without evidence; see `fit_temperature`.
SPREAD = 0.25
_TINY = 1e-12


@dataclass(frozen=True)
class Bin:
    """Pictures whose probability lies from `low` to `high`: how many, their mean probability, the share named right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(targets: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Return a reliability diagram of the named class (Guo et al. 2017, arXiv:1706.04599, section 2); no empty bins.

    Args:
        targets: int `(n,)`.
        probabilities: `(n, c)`.
        bins: How many bins of equal width from 0 to 1.
    """
    return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets, bins)


def binned(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Return the same from the probability `(n,)` of each named class and whether it is right, bool `(n,)`."""
    confidence = np.asarray(confidence, np.float64)
    # As in the paper a bin is open below: (0.8, 0.9].
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    made = []
    for index in np.unique(which):
        inside = which == index
        made.append(
            Bin(
                index / bins,
                (index + 1) / bins,
                int(inside.sum()),
                float(confidence[inside].mean()),
                float(right[inside].mean()),
            )
        )
    return tuple(made)


def calibration_error(targets: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error (ECE; Naeini et al. 2015, Guo et al. 2017, equation 3) of the named class.

    The mean over the pictures of `|accuracy - confidence|` of their bin. With few pictures it is too high even for
    perfect probabilities: each bin's accuracy then strays by chance.
    """
    return error_of(reliability(targets, probabilities, bins))


def error_of(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error of bins, see `calibration_error`."""
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / sum(one.count for one in bins)


def fit_temperature(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature by which logits should be divided (Guo et al. 2017, section 4.2).

    The likelihood alone would make a head that names all of forty pictures right infinitely sure of itself, so the
    logarithm of the temperature has a normal prior around 0 with a standard deviation of `SPREAD`: forty pictures move
    it little, a thousand as far as they say.

    Args:
        targets: int `(n,)`, of pictures that the head has not seen.
        probabilities: `(n, c)`, what it says of them; `softmax(log(p) / T)` is `softmax(z / T)`.

    Raises:
        DataError: There is no picture.
    """
    if not len(targets):
        raise DataError("a temperature needs pictures that were held out, and there is none. Give some to validation.")
    from scipy.optimize import minimize_scalar

    logs = np.log(np.clip(probabilities.astype(np.float64), _TINY, None))
    rows = np.arange(len(targets))

    def cost(log_temperature: float) -> float:
        scaled = logs / math.exp(log_temperature)
        top = scaled.max(axis=1)
        losses = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, targets]
        return float(losses.sum()) + (log_temperature / SPREAD) ** 2 / 2

    found = minimize_scalar(cost, bounds=(math.log(0.1), math.log(10)), method="bounded")
    return math.exp(float(found.x))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return `softmax(log(probabilities) / temperature)`, float64 `(n, c)`."""
    logs = np.log(np.clip(probabilities.astype(np.float64), _TINY, None)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def conformal_rank(n: int, share: float) -> int:
    """Return which of n sorted held-out scores bounds a new one with at least this probability; above n: none does.

    `ceil((n + 1) * share)`: a new score is equally likely to fall into each of the n + 1 gaps (Vovk et al. 2005;
    Angelopoulos and Bates 2023, arXiv:2107.07511, section 1).
    """
    return math.ceil((n + 1) * share - 1e-9)


def set_threshold(targets: np.ndarray, probabilities: np.ndarray, coverage: float) -> float:
    """Return the smallest probability with which a class belongs into a prediction set.

    Split conformal prediction with the score `1 - p(true class)`, which gives the smallest sets on average (Sadinle et
    al. 2019, doi:10.1080/01621459.2017.1395341). With too few pictures for the coverage it is 0: every class belongs.

    Args:
        targets: int `(n,)`, of held-out pictures.
        probabilities: `(n, c)`.
        coverage: Share of new pictures whose true class shall be in their set, below 1.
    """
    own = np.sort(probabilities[np.arange(len(targets)), targets].astype(np.float64))[::-1]
    rank = conformal_rank(len(own), coverage)
    return float(own[rank - 1]) if rank <= len(own) else 0.0


def prediction_sets(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return which classes belong into each picture's set, bool `(n, c)`; the most probable one always does."""
    # A float32 probability that is the threshold itself must not miss it by a rounding.
    inside = probabilities >= threshold - 1e-6
    inside[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return np.asarray(inside)


def alarm_threshold(scores: np.ndarray, false_alarm_rate: float) -> float | None:
    """Return the novelty above which a picture is called unknown, or None where too few scores are known to say.

    A new picture of the known classes exceeds it with at most this probability (conformal, as `set_threshold`; Bates et
    al. 2023, arXiv:2104.08279).

    Args:
        scores: Novelty `(n,)` of pictures of the known classes that are not in the bank.
        false_alarm_rate: Share of such pictures that may be called unknown.
    """
    rank = conformal_rank(len(scores), 1 - false_alarm_rate)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None
