"""fastai's `fine_tune` with its default augmentation against headstart's frozen default, from folder to tested model.

Same weights (EfficientNet-Lite0), same pictures to train and to test on. Wall time of fresh processes, imports
included, with an empty cache: hymenoptera with four epochs, catdog (70/30) with one.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from harness import FULL, Effort, fit_fresh, run_peer, write_lite0, write_manifest
from rows import Row, row

CASES = (("hymenoptera", 4, 0.2), ("catdog", 1, 0.3))
BOUNDS = {
    name: bound
    for data, _, _ in CASES
    for name, bound in ((f"{data}: times faster than fastai", 10), (f"{data}: accuracy above fastai's", 0))
}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return wall times, ratios and mean accuracies over seeds."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        weights = write_lite0(Path(temporary) / "lite0.safetensors")
        for name, epochs, test_size in CASES:
            manifest = write_manifest(data / name, Path(temporary) / f"{name}.csv", test_size=test_size)
            rows += compare(name, manifest, weights, effort.epochs(epochs), effort)
    return rows


def compare(name: str, manifest: Path, weights: Path, epochs: int, effort: Effort) -> list[Row]:
    """Return the rows of one data set."""
    theirs, ours = [], []
    for seed in effort.seeds:
        theirs.append(run_peer("fastai_finetune.py", manifest, weights, "--epochs", epochs, "--seed", seed))
        ours.append(fit_fresh(manifest, method="frozen", seed=seed))
    note, mean, speed, accuracy = theirs[0]["versions"], statistics.mean, *list(bounds(name))
    pairs = list(zip(theirs, ours, strict=True))
    return [
        row(f"{name}: fastai fine_tune({epochs})", [run["wall"] for run in theirs], "s", note=note),
        row(f"{name}: headstart's frozen default", [fit.seconds for fit in ours], "s"),
        row(speed, [run["wall"] / fit.seconds for run, fit in pairs], "x", at_least=BOUNDS[speed], note=note),
        row(f"{name}: fastai, mean accuracy", [run["accuracy"] for run in theirs], "", middle=mean, note=note),
        row(f"{name}: headstart, mean accuracy", [fit.accuracy for fit in ours], "", middle=mean),
        row(
            accuracy,
            [fit.accuracy - run["accuracy"] for run, fit in pairs],
            "",
            at_least=BOUNDS[accuracy],
            middle=mean,
            note=note,
        ),
    ]


def bounds(name: str) -> list[str]:
    """Return the names of a data set's rows with a bound: speed, then accuracy."""
    return [one for one in BOUNDS if one.startswith(f"{name}: ")]
