"""Pictures far from ImageNet: handwritten digits, frozen, with the last stage, the upper stages and all layers trained.

Accuracy and wall time of fresh processes with an empty cache. "From blocks.4" and "from blocks.5" repeat the experiment
of the design (from the fitted head, frozen BatchNorm, four views, ten epochs, AdamW 1e-3 and 3e-4, label smoothing 0.1;
on another ten-class set it took 0.937 to 0.990, that is 0.84 of the errors away) on digits that scikit-learn carries.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from harness import FULL, Effort, Fit, fit_fresh
from rows import Row, row

PICTURES = 600
IMAGE_SIZE = 128  # the digits are drawings of 8 x 8 points
# No flips: a mirrored digit is another sign. BatchNorm is frozen and warm-up and cosine are on by default.
EXPERIMENT: dict[str, Any] = {
    "method": "finetune",
    "augmentation": {"rotation": 10, "shift": 0.08, "zoom": 0.1},
    "views": 4,
}
TRAINING = {"learning_rate": 1e-3, "backbone_learning_rate": 3e-4, "label_smoothing": 0.1, "optimizer": "adamw"}
CUTS = {"last stage": "blocks.6", "from blocks.5": "blocks.5", "from blocks.4": "blocks.4", "all": "all"}
GAIN = "digits, from blocks.4: share of the frozen model's errors that are gone"
BOUNDS = {GAIN: 0.8}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return mean accuracy and median time of each way, and what fine-tuning gained."""
    from headstart.learn.sample import write_digits

    with tempfile.TemporaryDirectory() as temporary:
        digits = write_digits(Path(temporary) / "digits", limit=200 if effort.quick else PICTURES)
        training = {**TRAINING, "epochs": effort.epochs(10)}
        ways: dict[str, dict[str, Any]] = {"frozen": {"method": "frozen"}}
        ways |= {name: {**EXPERIMENT, "unfreeze": cut, "training": training} for name, cut in CUTS.items()}
        fits: dict[str, list[Fit]] = {
            name: [fit_fresh(digits, **way, seed=seed, image_size=effort.side(IMAGE_SIZE)) for seed in effort.seeds]
            for name, way in ways.items()
        }
    rows = []
    for name, runs in fits.items():
        rows += [
            row(f"digits, {name}: mean accuracy", [run.accuracy for run in runs], "", middle=statistics.mean),
            row(f"digits, {name}: folder to tested model", [run.seconds for run in runs], "s"),
        ]
    gone = [
        (tuned.accuracy - frozen.accuracy) / max(1e-9, 1 - frozen.accuracy)
        for frozen, tuned in zip(fits["frozen"], fits["from blocks.4"], strict=True)
    ]
    return [*rows, row(GAIN, gone, "", at_least=BOUNDS[GAIN], middle=statistics.mean)]
