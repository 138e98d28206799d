"""Confidence of saved models: what the test shows of temperature and prediction sets, and of strangers.

A model of cats and dogs is shown ants and bees, and the reverse, frozen and fine-tuned; both are also shown noise,
black, white and text. AUROC: how well novelty tells strangers from the model's own test pictures (0.5 is guessing);
flagged: the share of strangers that the model calls unknown at its stated false-alarm rate of 5 %.

`finetune` saves the tuned network only where validation prefers it, and a frozen start that is nearly always right
leaves it little to prefer. So the tuned network is the one that is measured even where validation would have kept the
other: the note says how often it preferred which. A model that `fit` saves is one of the two.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from harness import FULL, Effort, empty_cache
from rows import Row, row

import headstart
from headstart.core.pictures import find_files
from headstart.learn.methods import choice

METHODS = {
    "frozen": {"method": "frozen"},
    "tuned": {"method": "finetune", "augmentation": "standard"},
}
# Nearly as many steps for the one as for the other, which has four times as many pictures.
EPOCHS = {"hymenoptera": 8, "catdog": 2}
PAIRS = (("hymenoptera", "catdog"), ("catdog", "hymenoptera"))
BOUNDS = {f"{own} shown {other}, {method}: AUROC": 0.99 for method in METHODS for own, other in PAIRS}


def measure(data: Path, effort: Effort = FULL) -> Iterator[Row]:
    """Yield AUROC, shares flagged, false alarms, coverage and calibration over seeds."""
    with empty_cache():
        for method in METHODS:
            for own, other in PAIRS:
                with tuned_is_kept() as preferred:
                    found = over_seeds(data, own, other, method, effort)
                note = (
                    f"tuned network measured in all {len(preferred)} runs; validation preferred it in {sum(preferred)}"
                )
                for name, values in found.items():
                    told = note if preferred else ""
                    yield row(name, values, "", at_least=BOUNDS.get(name), middle=statistics.mean, note=told)


def over_seeds(data: Path, own: str, other: str, method: str, effort: Effort) -> dict[str, list[float]]:
    """Fit a model of `own` for each seed and return its figures by name, those on pictures of `other` among them."""
    found: dict[str, list[float]] = {}
    for seed in effort.seeds:
        parameters = {**METHODS[method], "seed": seed, "image_size": effort.side()}
        if parameters["method"] == "finetune":
            parameters["training"] = {"epochs": effort.epochs(EPOCHS[own])}
        strangers = sorted(find_files(data / other))[seed :: 3 if other == "catdog" else 1]
        with tempfile.TemporaryDirectory() as folder:
            headstart.ImageClassifier(**parameters).fit(data / own, out=Path(folder) / "model")
            for name, value in judge(Path(folder) / "model", strangers):
                found.setdefault(name.format(own=own, other=other, method=method), []).append(value)
    return found


@contextmanager
def tuned_is_kept() -> Iterator[list[bool]]:
    """Keep every tuned network, whatever validation prefers, and hand over the list of what it preferred."""
    preferred: list[bool] = []
    is_better = choice.is_better

    def note_and_keep(new: choice.Score, old: choice.Score) -> bool:
        preferred.append(is_better(new, old))
        return True

    with patch.object(choice, "is_better", note_and_keep):
        yield preferred


def judge(model: Path, strangers: list[Path]) -> Iterator[tuple[str, float]]:
    """Yield the figures of one model under names that tell which."""
    from sklearn.metrics import roc_auc_score

    predictor = headstart.load(model)
    with (model / "predictions.csv").open(newline="", encoding="utf-8") as file:
        known = np.array([float(one["novelty"]) for one in csv.DictReader(file)])
    for what, pictures in (("{own} shown {other}", strangers), ("{own} shown noise, black, white, text", nonsense())):
        new = np.array([one.novelty for one in predictor.stream(pictures)])
        threshold = predictor.thresholds.novelty
        truth = np.r_[np.zeros(len(known)), np.ones(len(new))]
        yield f"{what}, {{method}}: AUROC", float(roc_auc_score(truth, np.r_[known, new]))
        if threshold is not None:  # of a few pictures, as in a trial, there is none
            yield f"{what}, {{method}}: flagged", float((new > threshold).mean())
    confidence = predictor.description["confidence"]
    if threshold is not None:
        yield "{own}, {method}: false alarms on its own test pictures", float((known > threshold).mean())
    if "conformal" in confidence:
        covered = confidence["conformal"]["test_coverage"]["value"]
        yield "{own}, {method}: coverage of its prediction sets (0.95 stated)", covered
    for when in ("before", "after"):
        for figure in ("ece", "log_loss"):
            yield f"{{own}}, {{method}}: {figure} {when} temperature", confidence["test"][when][figure]


def nonsense() -> list[np.ndarray]:
    """Return what is no photograph: noise, plain black and white, and lines of text."""
    import cv2

    rng = np.random.default_rng(0)
    made = [np.full((256, 256, 3), level, np.uint8) for level in (0, 255)]
    made += [rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(4)]
    for size in (0.6, 1.0, 1.6):
        page = np.full((256, 256, 3), 255, np.uint8)
        for line in range(30, 256, round(32 * size)):
            cv2.putText(page, "The quick brown fox", (4, line), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 2)
        made.append(page)
    return made
