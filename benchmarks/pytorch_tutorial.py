"""Full fine-tuning of EfficientNet-Lite0: the PyTorch tutorial's loop against `method="finetune", unfreeze="all"`.

Both train on hymenoptera at 224 px from the same weights for eight epochs and test on the same pictures. Compared is
what an epoch trains (validation apart on both sides), for as many pictures; the tutorial's accuracy is that after the
last epoch, since its best epoch is chosen on the very pictures that it is measured on.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from harness import FULL, Effort, fit_fresh, run_peer, write_lite0, write_manifest
from rows import Row, row

EPOCHS = 8
SPEED = "Lite0, all unfrozen: times less per epoch than the PyTorch tutorial"
ACCURACY = "Lite0, all unfrozen: accuracy above the PyTorch tutorial's"
BOUNDS = {SPEED: 2, ACCURACY: 0}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return seconds an epoch, the ratio, and mean accuracies over seeds."""
    epochs = effort.epochs(EPOCHS, 2)
    loops, ours = [], []
    with tempfile.TemporaryDirectory() as temporary:
        manifest = write_manifest(data / "hymenoptera", Path(temporary) / "hymenoptera.csv")
        weights = write_lite0(Path(temporary) / "lite0.safetensors")
        for seed in effort.seeds:
            options = [manifest, weights, "--epochs", epochs, "--seed", seed]
            loops.append(run_peer("torch_tutorial.py", *options, python=sys.executable))
            ours.append(
                fit_fresh(
                    manifest,
                    method="finetune",
                    unfreeze="all",
                    image_size=224,
                    augmentation="standard",
                    views=epochs,
                    training={"epochs": epochs},
                    seed=seed,
                )
            )
    note, mean = loops[0]["versions"], statistics.mean
    slow = [statistics.median(epoch["training"] for epoch in loop["per_epoch"]) for loop in loops]
    fast = [
        statistics.median(one.epochs()) * loop["pictures"] / one.counts["train"]
        for one, loop in zip(ours, loops, strict=True)
    ]
    right, theirs = [one.accuracy for one in ours], [loop["accuracy"] for loop in loops]
    return [
        row("PyTorch tutorial on Lite0: training of an epoch", slow, "s", note=note),
        row("Lite0, all unfrozen: training of an epoch", fast, "s"),
        row(SPEED, [a / b for a, b in zip(slow, fast, strict=True)], "x", at_least=BOUNDS[SPEED], note=note),
        row("PyTorch tutorial on Lite0: mean accuracy", theirs, "", middle=mean, note=note),
        row(
            "PyTorch tutorial on Lite0: its best epoch on the test pictures",
            [x["best"] for x in loops],
            "",
            middle=mean,
        ),
        row("Lite0, all unfrozen: mean accuracy", right, "", middle=mean),
        row(
            ACCURACY,
            [a - b for a, b in zip(right, theirs, strict=True)],
            "",
            at_least=BOUNDS[ACCURACY],
            middle=mean,
            note=note,
        ),
    ]
