"""Saved models against each other on the same pictures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headstart.core.errors import DataError, SettingError
from headstart.core.intervals import effective_size, paired_difference
from headstart.core.predictor import Predictor
from headstart.core.progress import Progress
from headstart.core.significance import LEVEL, holm, mcnemar
from headstart.core.text import count
from headstart.learn.evaluation import DataEvaluation, evaluate_on


@dataclass(frozen=True)
class Duel:
    """Two models on the same pictures.

    Attributes:
        better: Name of the one that names at least as many right.
        worse: Name of the other.
        only_better, only_worse: How many pictures only this one names right; the others tell nothing.
        difference: Of their accuracies, worse minus better.
        low, high: Its 95 % interval, not corrected for several pairs.
        p: Of "they are equally accurate" (McNemar's exact test), corrected for all pairs (Holm).

    Where pictures have several labels, a picture is named right when all of them are. Interval and p allow for pictures
    that belong together.
    """

    better: str
    worse: str
    only_better: int
    only_worse: int
    difference: float
    low: float
    high: float
    p: float

    def sentence(self) -> str:
        """Return what the test says, for people."""
        counts = (
            f"{count(self.only_better, 'picture')} that only it names right against {self.only_worse}, p = {self.p:.2g}"
        )
        if self.p < LEVEL:
            return f"{self.better} is better than {self.worse} ({counts})."
        return f"{self.better} is not shown to be better than {self.worse} ({counts})."


@dataclass(frozen=True, eq=False)
class Versus:
    """The result of `compare_models`: evaluations by name, the most accurate first, and every pair."""

    evaluations: dict[str, DataEvaluation]
    duels: tuple[Duel, ...]

    def against_best(self, name: str) -> Duel | None:
        """Return the duel of a model with the first; None for the first itself."""
        best = next(iter(self.evaluations))
        return next((duel for duel in self.duels if (duel.better, duel.worse) == (best, name)), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        first = next(iter(self.evaluations.values()))
        return {
            "n": first.evaluation.n,
            "classes": sorted(first.evaluation.classes),
            "set_aside": [{"path": path, "reason": reason} for path, reason in first.set_aside],
            "models": [
                {"model": name, "seen_in_training": one.seen_in_training, **one.evaluation.to_json()}
                for name, one in self.evaluations.items()
            ],
            "pairs": [{**asdict(duel), "shown": duel.p < LEVEL} for duel in self.duels],
        }


def compare_models(
    models: Mapping[str, Predictor],
    data: Any,
    *,
    part: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Versus:
    """Measure saved models on the same pictures and test every pair of them.

    All pairs are corrected for, although people look at those with the best: which one that is was found on the same
    pictures.

    Args:
        models: Two or more by name; they know the same classes, in any order.
        data: Folder, manifest or DataFrame, as for `evaluate_on`.
        part: Only the pictures of this split of the data.
        seed: Of the bootstrap.
        progress: Is shown the steps.

    Raises:
        SettingError: The models know different classes, or only some of them give a picture several labels.
        DataError: The data cannot be read, have a class that the models do not know, or changed meanwhile.
    """
    _check_classes(models)
    several = [name for name, model in models.items() if model.thresholds.labels is not None]
    if several and len(several) < len(models):
        raise SettingError(
            f"{several[0]} gives a picture several labels and not all of the models do: compare models of one kind."
        )
    headline = "exact_match" if several else "accuracy"
    found = {name: evaluate_on(one, data, part=part, seed=seed, progress=progress) for name, one in models.items()}
    if len({one.outcomes.paths for one in found.values()}) > 1:
        raise DataError("the pictures changed while the models were measured: start again.")

    def worst_last(name: str) -> tuple[float, float]:
        figures = found[name].evaluation.figures
        return -figures[headline].value, figures["log_loss"].value

    ordered = {name: found[name] for name in sorted(found, key=worst_last)}
    tested = [_duel(ordered, *pair) for pair in itertools.combinations(ordered, 2)]
    corrected = holm([duel.p for duel in tested]).tolist()
    return Versus(ordered, tuple(Duel(**{**asdict(duel), "p": p}) for duel, p in zip(tested, corrected, strict=True)))


def _duel(found: Mapping[str, DataEvaluation], better: str, worse: str) -> Duel:
    a, b = (found[name].outcomes.right for name in (better, worse))
    only_better, only_worse = int((a & ~b).sum()), int((b & ~a).sum())
    units = found[better].outcomes.units
    difference, p = mcnemar(a, b, units)
    # Where pictures belong together the counts are over the design effect (Rao and Scott 1992).
    size = effective_size((a.astype(float) - b + 1) / 2, units)
    low, high = paired_difference(only_better * size / len(a), only_worse * size / len(a), size)
    return Duel(better, worse, only_better, only_worse, difference, low, high, p)


def _check_classes(models: Mapping[str, Predictor]) -> None:
    if len(models) < 2:
        raise SettingError(f"{len(models)} model is given: a comparison needs at least two different ones.")
    (first, known), *others = ((name, set(model.classes)) for name, model in models.items())
    for name, classes in others:
        if classes != known:
            parts = [
                f"only {who} knows {', '.join(map(repr, sorted(own)[:3]))}{' …' if len(own) > 3 else ''}"
                for who, own in ((first, known - classes), (name, classes - known))
                if own
            ]
            raise SettingError(
                f"{first} and {name} know different classes: {'; '.join(parts)}. Compare models of the same classes, "
                "or evaluate each by itself."
            )
