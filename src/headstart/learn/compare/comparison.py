"""What a comparison found: every choice with its scores, every pair with its test, and which one to take."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from headstart.core.metrics import Figure
from headstart.core.significance import LEVEL, Difference, by_pictures, corrected_t_test, holm
from headstart.learn.features.speed import Speed

# What choices are ordered by: where each picture has one class, and where it may have several labels.
ACCURACY, PRECISION = "accuracy", "mean_average_precision"
# Speeds that differ by less count as equal, as a second measurement could turn them round; sizes are exact.
ALIKE, ALIKE_SIZE = 0.1, 0.01


@dataclass(frozen=True)
class Choice:
    """What `fit` may be told: a backbone, a head and a method."""

    backbone: str
    head: str
    method: str

    @property
    def name(self) -> str:
        """The choice as people call it."""
        tuned = "" if self.method == "frozen" else f" ({self.method})"
        return f"{self.backbone} + {self.head}{tuned}"

    @property
    def arguments(self) -> str:
        """The options of `headstart fit` that take this choice."""
        return shlex.join(["--backbone", self.backbone, "--head", self.head, "--method", self.method])


@dataclass(frozen=True, eq=False)
class Scored:
    """A choice and how well it did on pictures that it had not seen.

    Attributes:
        choice: The choice.
        folds: float64 `(J,)`, the accuracy or mean average precision of each fold's held-out pictures, repeat after
            repeat.
        score: The same over all folds, with its 95 % interval (`figures.py`).
        log_loss: Mean of the same pictures' log loss.
        megabytes: Size of the network in float32, backbone and head (10^6 bytes).
        seconds: Time of all fits and judgements, features not included.
        tuned_folds: In how many folds the tuned network was kept; None for what is not fine-tuned.
        right: bool `(repeats, n)`, which pictures each repeat named right; None where they have several labels.
    """

    choice: Choice
    folds: np.ndarray
    score: Figure
    log_loss: float
    megabytes: float
    seconds: float
    tuned_folds: int | None = None
    right: np.ndarray | None = None


@dataclass(frozen=True)
class BackboneFacts:
    """What a backbone costs, whatever head is on it."""

    name: str
    speed: Speed
    image_size: tuple[int, int]
    licence: str
    source: str


@dataclass(frozen=True)
class Pair:
    """Two choices, by their places in the table, on the folds that both ran on.

    Attributes:
        better: Place of the one that stands higher.
        worse: Place of the other.
        difference: Of their scores, worse minus better.
        p: Of "there is no difference", corrected for all pairs of the table (Holm).
    """

    better: int
    worse: int
    difference: Difference
    p: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`.

    Attributes:
        data: Name of the data.
        classes: The class names.
        headline: The figure that the choices are ordered by: `accuracy`, or `mean_average_precision`.
        pictures: How many pictures were shared out to the folds.
        untouched: How many test pictures were not looked at; 0 where the data are too few for any.
        folds, repeats: Of the cross-validation; fine-tuning has one repeat.
        scored: The choices, the one with the highest score first.
        backbones: What each backbone costs, by name.
        pairs: Every pair of choices.
        left_out: `(choice, reason)` of those that were not run.
        recommended: Place of the choice to take.
        why: The reason, as a sentence.
    """

    data: str
    classes: tuple[str, ...]
    headline: str
    pictures: int
    untouched: int
    folds: int
    repeats: int
    scored: tuple[Scored, ...]
    backbones: dict[str, BackboneFacts]
    pairs: tuple[Pair, ...]
    left_out: tuple[tuple[Choice, str], ...]
    recommended: int
    why: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """The headline in words."""
        return in_words(self.headline)

    def against_best(self, place: int) -> Pair | None:
        """Return the test of a choice against the first of the table; None for the first itself."""
        return next((pair for pair in self.pairs if (pair.better, pair.worse) == (0, place)), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        names = [scored.choice.name for scored in self.scored]
        return {
            "data": self.data,
            "classes": list(self.classes),
            "headline": self.headline,
            "pictures": self.pictures,
            "test_pictures_untouched": self.untouched,
            "folds": self.folds,
            "repeats": self.repeats,
            "choices": [self._row(place) for place in range(len(self.scored))],
            "backbones": {name: asdict(facts) for name, facts in self.backbones.items()},
            "pairs": [
                {"better": names[pair.better], "worse": names[pair.worse], **_tested(pair)} for pair in self.pairs
            ],
            "left_out": [{**asdict(choice), "reason": reason} for choice, reason in self.left_out],
            "recommended": {**asdict(self.scored[self.recommended].choice), "why": self.why},
            "seconds": self.seconds,
        }

    def _row(self, place: int) -> dict[str, Any]:
        one, pair = self.scored[place], self.against_best(place)
        facts = self.backbones[one.choice.backbone]
        return {
            **asdict(one.choice),
            self.headline: asdict(one.score),
            "log_loss": one.log_loss,
            f"{self.headline}_by_fold": one.folds.tolist(),
            "against_best": None if pair is None else _tested(pair),
            "pictures_per_second": facts.speed.pictures_per_second,
            "megabytes": one.megabytes,
            "licence": facts.licence,
            "seconds": one.seconds,
            "tuned_folds": one.tuned_folds,
        }


def _tested(pair: Pair) -> dict[str, Any]:
    difference = asdict(pair.difference)
    uncorrected = difference.pop("p")
    return {**difference, "p": pair.p, "p_uncorrected": uncorrected, "shown": pair.p < LEVEL}


def order(scored: list[Scored]) -> list[Scored]:
    """Return the choices, the highest score first; of equally high ones the one with the lower log loss."""
    return sorted(scored, key=lambda one: (-one.score.value, one.log_loss))


def in_words(headline: str) -> str:
    """Return the name of a figure as people write it."""
    return headline.replace("_", " ")


def test_pairs(scored: list[Scored], test_share: float, folds: int, units: np.ndarray | None) -> list[Pair]:
    """Test every pair on the folds that both ran on, and correct for their number.

    All pairs, although the table shows those with the best alone: which one is best was found on the same scores, and
    the best of many equals differs from the last of them by more than two choices picked beforehand would.

    Args:
        scored: In the order of the table.
        test_share: Held-out over training pictures of a fold.
        folds: Folds of one repeat.
        units: int `(n,)`, equal for pictures that belong together; None where all are independent.
    """
    places = list(itertools.combinations(range(len(scored)), 2))
    found = []
    for better, worse in places:
        a, b = scored[better].folds, scored[worse].folds
        common = min(len(a), len(b))
        difference = corrected_t_test(a[:common], b[:common], test_share, folds)
        one, other, repeats = scored[better].right, scored[worse].right, common // folds
        if difference.low is None and one is not None and other is not None:
            shares = one[:repeats].mean(axis=0), other[:repeats].mean(axis=0)
            difference = by_pictures(difference, *shares, units)
        found.append(difference)
    corrected = holm([difference.p for difference in found])
    return [
        Pair(*both, difference, float(p)) for both, difference, p in zip(places, found, corrected.tolist(), strict=True)
    ]


def recommend(
    scored: list[Scored], pairs: list[Pair], backbones: dict[str, BackboneFacts], headline: str
) -> tuple[int, str]:
    """Return the place of the choice to take, and the reason.

    The one-standard-error rule (Breiman, Friedman, Olshen and Stone 1984, Classification and Regression Trees, section
    3.4.3): of all choices that are within one standard error of the best, and so not shown to be worse, the cheapest:
    the fastest; of equally fast ones the smallest; of these the frozen; and of these the one with the highest score.
    """
    near = {0: 0.0} | {
        pair.worse: pair.difference.value
        for pair in pairs
        if pair.better == 0 and -pair.difference.value <= (pair.difference.standard_error or 0) and pair.p >= LEVEL
    }

    def speed(place: int) -> float:
        return backbones[scored[place].choice.backbone].speed.pictures_per_second

    fast = [place for place in near if speed(place) >= (1 - ALIKE) * max(map(speed, near))]
    smallest = min(scored[place].megabytes for place in fast)
    small = [place for place in fast if scored[place].megabytes <= (1 + ALIKE_SIZE) * smallest]
    chosen = min(small, key=lambda place: (scored[place].choice.method != "frozen", place))
    return chosen, _reason(chosen, scored, pairs, backbones, near, in_words(headline))


def _reason(
    chosen: int,
    scored: list[Scored],
    pairs: list[Pair],
    backbones: dict[str, BackboneFacts],
    near: dict[int, float],
    measured: str,
) -> str:
    others = [place for place in range(len(scored)) if place not in near]
    if len(scored) == 1:
        return "it is the only choice that was run"
    if chosen == 0:
        alone = "no other is within one standard error of it"
        same = "none of the others within one standard error of it is cheaper"
        return f"it has the highest {measured}, and {alone if len(others) == len(scored) - 1 else same}"
    pair = next(pair for pair in pairs if (pair.better, pair.worse) == (0, chosen))
    best, taken = scored[0].choice, scored[chosen].choice
    speeds = [backbones[choice.backbone].speed.pictures_per_second for choice in (taken, best)]
    cheaper = (
        f"{speeds[0] / speeds[1]:.1f} times as fast"
        if speeds[0] > (1 + ALIKE) * speeds[1]
        else f"smaller ({scored[chosen].megabytes:.1f} MB instead of {scored[0].megabytes:.1f} MB)"
        if scored[0].megabytes > (1 + ALIKE_SIZE) * scored[chosen].megabytes
        else "as fast and as small, without fine-tuning"
    )
    interval = "" if pair.difference.low is None else ", 95 % interval in brackets"
    return (
        f"it is {cheaper}, and its {measured} is within one standard error of the highest, that of {best.name}: the "
        f"difference is {pair.difference.text}{interval}"
    )
