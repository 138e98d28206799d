"""What features tell: wrong labels, outliers, classes that cannot be told apart, and what leaks do to a score."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from headstart.core.findings import Inflation, Leakage, Pair
from headstart.core.intervals import mean_of_proportions, wilson
from headstart.core.metrics import Figure
from headstart.learn.heads import LinearHead
from headstart.learn.heads.linear import cross_validated
from headstart.learn.methods.frozen import probabilities

NEIGHBOURS = 5
# Modified z-score above which a value is an outlier (Iglewicz and Hoaglin 1993).
Z_LIMIT = 3.5
# The spread of distances is at least this share of their median, and this much (photographs have 0.12 and 0.04, scans
# of digits 0.14 and 0.005): among pictures that are all but the same, whatever is not quite so is no outlier yet.
LEAST_SPREAD = (0.1, 0.005)
# No more than this share of a class are outliers, and one in a small class.
MOST_OUTLIERS = 0.05
# Distances are taken to at most so many pictures, so that 50,000 cost seconds.
MAX_BANK = 10_000
# Cross-validated accuracy of two classes below which the pair is worth telling.
HARD = 0.8
MIN_PICTURES = 5


def cross_validate(
    features: np.ndarray, targets: np.ndarray, num_classes: int, units: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that no wrong label has disturbed much, and which labels are likely wrong.

    Confident learning (Northcutt et al. 2021, arXiv:1911.00068; cleanlab) on cross-validated probabilities, twice:
    what the first pass prunes is not learned from in the second, so that wrong labels do not blunt the judgement of
    the others. On catdog with 5 % wrong labels that took recall from 0.82 to 0.95 at a precision of 0.98
    (docs/decisions/0008-doctor.md).

    Args:
        features: `(n, d)`.
        targets: int64 `(n,)`.
        num_classes: c.
        units: int64 `(n,)`: pictures that are the same, or nearly, or of one group are judged without each other.
        seed: Of the folds.

    Returns:
        float32 `(n, c)`, of the second pass, NaN where a picture cannot be judged; and bool `(n,)`.
    """
    first = cross_validated(features, targets, num_classes, groups=units, seed=seed)
    suspect = _issues(targets, first, "prune_by_noise_rate")
    kept = np.bincount(targets[~suspect], minlength=num_classes)
    suspect &= kept[targets] > 0  # a class needs something to learn from
    if not suspect.any():
        return first, _issues(targets, first, "confident_learning")
    second = cross_validated(features, targets, num_classes, groups=units, trusted=~suspect, seed=seed)
    return second, _issues(targets, second, "confident_learning")


def cross_validate_labels(
    features: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same where pictures have several labels: each is judged against the rest, as cleanlab does it.

    Args:
        features: `(n, d)`.
        labels: bool `(n, c)`.
        units: int64 `(n,)`.
        seed: Of the folds.

    Returns:
        float32 `(n, c)`, the probability of each label; and bool `(n, c)`. A label that is not shown to be better known
        than by guessing is not doubted.
    """
    said, doubted = np.full(labels.shape, np.nan, np.float32), np.zeros(labels.shape, bool)
    for label in range(labels.shape[1]):
        has = labels[:, label].astype(np.int64)
        if has.min() == has.max():
            continue
        probabilities, wrong = cross_validate(features, has, 2, units, seed)
        said[:, label] = probabilities[:, 1]
        if better_than_guessing(has, probabilities, 2):
            doubted[:, label] = wrong & ((probabilities[:, 1] >= 0.5) != labels[:, label])
    return said, doubted


def _issues(targets: np.ndarray, probabilities: np.ndarray, method: str) -> np.ndarray:
    """Return which labels cleanlab's filter doubts, bool `(n,)`; those that were not judged are not doubted."""
    from cleanlab.filter import find_label_issues

    judged = np.isfinite(probabilities).all(axis=1)
    doubted = np.zeros(len(targets), bool)
    present, codes = np.unique(targets[judged], return_inverse=True)
    if len(present) < 2:
        return doubted
    # cleanlab wants a picture of every class.
    shares = probabilities[judged][:, present].astype(np.float64)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    doubted[judged] = find_label_issues(codes, shares, filter_by=method, n_jobs=1)
    return doubted


def distances(features: np.ndarray, units: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return how far each picture is from its nearest others, float64 `(n,)`.

    One minus the mean cosine similarity with the five nearest pictures of other units (Sun et al. 2022,
    arXiv:2204.06507), so that duplicates do not vouch for each other. Of more than 10,000 pictures that many are drawn
    to be compared with.

    Args:
        features: `(n, d)`.
        units: int64 `(n,)`.
        seed: Of that draw.
    """
    rows = features.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    n = len(rows)
    chosen = np.random.default_rng(seed).permutation(n)[:MAX_BANK] if n > MAX_BANK else np.arange(n)
    bank, bank_units = rows[chosen], units[chosen]
    found = np.empty(n)
    for start in range(0, n, 512):
        similar = rows[start : start + 512] @ bank.T
        similar[units[start : start + 512, None] == bank_units] = -np.inf
        k = min(NEIGHBOURS, len(chosen))
        nearest = np.partition(similar, len(chosen) - k, axis=1)[:, -k:]
        # Where hardly anything else is there, what there is counts.
        there = np.isfinite(nearest)
        mean = np.where(there, nearest, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        found[start : start + 512] = 1 - mean
    return found


def outlying(far: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much farther than usual each picture is, a modified z-score within its kind, and what is usual.

    Classes are apart by nature: blank pages lie close together, cats do not, and neither is an outlier for it. Where
    more than `MOST_OUTLIERS` of a kind are beyond `Z_LIMIT`, and so many that each has its neighbours among them, they
    are no strays but another kind in the same class, and are judged among themselves.

    Args:
        far: `(n,)`, of `distances`.
        kinds: int64 `(n,)`, the classes; all alike where pictures have no one class.

    Returns:
        float64 `(n,)`, above `Z_LIMIT` for at most `MOST_OUTLIERS` of a kind, or one; and float64 `(n,)`.
    """
    z, usual = np.zeros(len(far)), np.zeros(len(far))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        most = ceil(MOST_OUTLIERS * len(rows))
        while True:
            z[rows], usual[rows] = modified_z(far[rows]), np.median(far[rows])
            beyond = rows[z[rows] > Z_LIMIT]  # never all: the median is not beyond itself
            if len(beyond) <= max(most, NEIGHBOURS):
                break
            rows = beyond
        nearer = beyond[np.argsort(-far[beyond], kind="stable")][most:]
        z[nearer] = np.minimum(z[nearer], Z_LIMIT)
    return z, usual


def modified_z(values: np.ndarray) -> np.ndarray:
    """Return the modified z-scores `0.6745 (x - median) / MAD` (Iglewicz and Hoaglin 1993), for a MAD not too small."""
    middle = float(np.median(values))
    spread = float(np.median(np.abs(values - middle)))
    share, least = LEAST_SPREAD
    return np.asarray(0.6745 * (values - middle) / max(spread, share * abs(middle), least))


def better_than_guessing(targets: np.ndarray, probabilities: np.ndarray, num_classes: int) -> bool:
    """Whether cross-validated probabilities name classes better than chance does, as far as can be known.

    The 95 % interval of balanced accuracy lies above one over the number of classes.
    """
    judged = np.isfinite(probabilities).all(axis=1)
    own, right = targets[judged], probabilities[judged].argmax(axis=1) == targets[judged]
    sizes = np.bincount(own, minlength=num_classes)
    if not sizes.any():
        return False
    return mean_of_proportions(np.bincount(own[right], minlength=num_classes), sizes)[1] > 1 / num_classes


def hard_pairs(targets: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> tuple[Pair, ...]:
    """Return the pairs of classes that are hard to tell apart, or that guessing tells apart as well; hardest first.

    Args:
        targets: int64 `(n,)`.
        probabilities: `(n, c)`, cross-validated; rows of NaN are left out.
        classes: The c names.
    """
    judged = np.isfinite(probabilities).all(axis=1)
    targets, probabilities = targets[judged], probabilities[judged]
    c = len(classes)
    confusion = np.bincount(targets * c + probabilities.argmax(axis=1), minlength=c * c).reshape(c, c)
    both = np.triu(confusion + confusion.T, k=1)
    pairs = []
    for a, b in np.argwhere(both > 0).tolist():
        rows = np.flatnonzero((targets == a) | (targets == b))
        first = probabilities[rows, a] > probabilities[rows, b]
        is_first = targets[rows] == a
        sizes = np.array([is_first.sum(), (~is_first).sum()])
        if sizes.min() < MIN_PICTURES:
            continue
        hits = np.array([(first & is_first).sum(), (~first & ~is_first).sum()])
        accuracy = Figure(*mean_of_proportions(hits, sizes))
        if accuracy.value < HARD:
            one, other = classes[a], classes[b]
            pairs.append(Pair(one, other, accuracy, int(both[a, b]), int(sizes.sum()), accuracy.low <= 0.5))
    return tuple(sorted(pairs, key=lambda pair: pair.accuracy.value))


def measure_leakage(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    units: np.ndarray,
    tested: np.ndarray,
    leaking: np.ndarray,
    seed: int = 0,
) -> Leakage | None:
    """Return the test accuracy with and without the leaking pictures among those that are learned from.

    Of a linear head, which is what `fit` begins with, and of the nearest neighbour, which remembers what it has seen
    as well as anything can: a network that is trained long stands between the two.

    Args:
        features: `(n, d)`.
        targets: int64 `(n,)`.
        num_classes: c.
        units: int64 `(n,)`, equal for pictures that are the same, nearly, or of one group.
        tested: bool `(n,)`, the pictures of the data's own test split.
        leaking: bool `(n,)`, pictures outside it that share a unit with one in it.
        seed: Of the head.
    """
    if not leaking.any():
        return None
    touched = np.isin(units, units[leaking]) & tested
    present = np.unique(targets[~tested & ~leaking])
    if len(present) < num_classes or not touched.any():
        return None
    of_tested = touched[tested]
    inflation = []
    for method in ("linear head", "nearest neighbour"):
        right = [
            _right(method, features, targets, num_classes, units, learned, tested, seed)
            for learned in (~tested, ~tested & ~leaking)
        ]
        figures = [_figure(one) for one in right] + [_figure(one[of_tested]) for one in right]
        inflation.append(Inflation(method, *figures))
    return Leakage(int(leaking.sum()), int(touched.sum()), int(tested.sum()), tuple(inflation))


def _right(
    method: str,
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    units: np.ndarray,
    learned: np.ndarray,
    tested: np.ndarray,
    seed: int,
) -> np.ndarray:
    if method == "linear head":
        fitted = LinearHead().fit(features[learned], targets[learned], num_classes, groups=units[learned], seed=seed)
        named = probabilities(fitted.module, features[tested]).argmax(axis=1)
    else:
        rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        known, asked = rows[learned], rows[tested]
        # Not all at once: 10,000 against 40,000 would take 1.6 GB.
        parts = [(asked[start : start + 512] @ known.T).argmax(axis=1) for start in range(0, len(asked), 512)]
        named = targets[learned][np.concatenate(parts)]
    return np.asarray(named == targets[tested])


def _figure(right: np.ndarray) -> Figure:
    return Figure(float(right.mean()), *wilson(int(right.sum()), len(right)))
