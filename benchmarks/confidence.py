"""Confidence of saved models: what the test shows of temperature and prediction sets, and of strangers.

A model of cats and dogs is shown ants and bees, and the reverse, frozen and fine-tuned; both are also shown noise,
black, white and text. AUROC: how well novelty tells strangers from the model's own test pictures (0.5 is guessing);
flagged: the share of strangers that the model calls unknown at its stated false-alarm rate of 5 %.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import FULL, Effort, empty_cache
from rows import Row, row

import headstart
from headstart.core.pictures import find_files

BOUNDS = {
    f"{own} shown {other}, {method}: AUROC": 0.99
    for method in ("frozen", "finetune")
    for own, other in (("hymenoptera", "catdog"), ("catdog", "hymenoptera"))
}
METHODS = {"frozen": {"method": "frozen"}, "finetune": {"method": "finetune", "augmentation": "standard"}}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return AUROC, shares flagged, false alarms, coverage and calibration over seeds."""
    found: dict[str, list[float]] = {}
    with empty_cache(), tempfile.TemporaryDirectory() as folder:
        for method, parameters in METHODS.items():
            for own, other in (("hymenoptera", "catdog"), ("catdog", "hymenoptera")):
                for seed in effort.seeds:
                    out = Path(folder) / f"{own}-{method}-{seed}"
                    headstart.ImageClassifier(**parameters, image_size=effort.side(), seed=seed).fit(
                        data / own, out=out
                    )
                    strangers = sorted(find_files(data / other))[seed :: 3 if other == "catdog" else 1]
                    for name, value in judge(out, strangers):
                        found.setdefault(name.format(own=own, other=other, method=method), []).append(value)
    return [row(name, values, "", at_least=BOUNDS.get(name), middle=statistics.mean) for name, values in found.items()]


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
        yield f"{what}, {{method}}: flagged", float((new > threshold).mean())
    confidence = predictor.description["confidence"]
    yield "{own}, {method}: false alarms on its own test pictures", float((known > threshold).mean())
    yield (
        "{own}, {method}: coverage of its prediction sets (0.95 stated)",
        confidence["conformal"]["test_coverage"]["value"],
    )
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
