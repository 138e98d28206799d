"""The doctor: how much of what is planted `headstart check` finds, and how much of what it names is planted.

Wrong labels: 5 % of the pictures get another class, drawn anew for each seed (the method was chosen on other seeds, see
docs/decisions/0008-doctor.md). What it names besides counts as wrong, though a few of the original labels are. Leaks:
copies of test pictures put into train, byte for byte, re-encoded, smaller, brighter or cropped.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import FULL, Effort
from PIL import Image, ImageEnhance
from rows import Row, row

SEEDS = 10
SHARE = 0.05
BOUNDS = {
    "catdog, 5 % wrong labels: recall, mean of 10 seeds": 0.9,
    "catdog, 5 % wrong labels: precision, mean of 10 seeds": 0.8,
}
WAYS: dict[str, Callable[[Path, Path], object]] = {
    "identical": lambda old, new: new.write_bytes(old.read_bytes()),
    "re-encoded at quality 60": lambda old, new: Image.open(old).convert("RGB").save(new, quality=60),
    "60 % of the size": lambda old, new: _resized(old).save(new, quality=90),
    "5 % brighter": lambda old, new: ImageEnhance.Brightness(Image.open(old).convert("RGB")).enhance(1.05).save(new),
    "cropped by 1.5 % at each edge": lambda old, new: _cropped(old, 0.015).save(new, quality=90),
    "cropped by 3 % at each edge": lambda old, new: _cropped(old, 0.03).save(new, quality=90),
}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return recall and precision of wrong labels, the rank of the planted outlier, leaks found, and seconds."""
    from headstart.learn.doctor import examine

    rows: list[Row] = []
    seeds = range(1 if effort.quick else SEEDS)
    for name in ("catdog", "hymenoptera"):
        found = [wrong_labels(data / name, seed) for seed in seeds]
        for kind, values in zip(("recall", "precision"), zip(*found, strict=True), strict=True):
            title = f"{name}, 5 % wrong labels: {kind}, mean of 10 seeds"
            rows.append(row(title, values, "", at_least=BOUNDS.get(title), middle=statistics.mean))
    checkup, _ = examine(data / "hymenoptera")
    names = [Path(suspect.path).name for suspect in checkup.findings["outliers"]]
    if "imageNotFound.gif" in names:
        title = "hymenoptera: rank of imageNotFound.gif among the outliers"
        rows.append(row(title, [names.index("imageNotFound.gif") + 1], "", at_most=3, note=f"of {len(names)} named"))
    rows += leaks(data / "catdog", 5 if effort.quick else 50)
    start = time.perf_counter()
    examine(data / "catdog")
    return [*rows, row("catdog: doctor with cached features", [time.perf_counter() - start], "s")]


def wrong_labels(data: Path, seed: int) -> tuple[float, float]:
    """Return recall and precision of the likely wrong labels when 5 % of the labels are changed."""
    import pandas as pd

    from headstart.learn.dataset import read_dataset
    from headstart.learn.doctor import examine

    dataset, rng = read_dataset(data), np.random.default_rng(seed)
    n, c = len(dataset), len(dataset.classes)
    planted = rng.choice(n, max(1, round(SHARE * n)), replace=False)
    targets = dataset.targets.copy()
    targets[planted] = (targets[planted] + rng.integers(1, c, len(planted))) % c
    frame = pd.DataFrame({"path": dataset.paths, "label": [dataset.classes[target] for target in targets]})
    named = {suspect.path for suspect in examine(frame, seed=seed)[0].findings["labels"]}
    bad = {dataset.paths[i] for i in planted}
    return len(named & bad) / len(bad), len(named & bad) / max(1, len(named))


def leaks(data: Path, each: int) -> list[Row]:
    """Return the share that is found of `each` copies of every kind, and how many more were named."""
    from headstart.learn.doctor import examine

    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as temporary:
        folder, copies = Path(temporary), dict[str, str]()
        for label in sorted(path.name for path in data.iterdir() if path.is_dir()):
            files = sorted((data / label).iterdir())
            order = rng.permutation(len(files))
            half = len(files) // 2
            for part, chosen in (("train", order[:half]), ("val", order[half:])):
                (folder / part / label).mkdir(parents=True)
                for i in chosen:
                    (folder / part / label / files[i].name).symlink_to(files[i])
        tested = sorted((folder / "val").glob("*/*"))
        drawn = rng.permutation(len(tested))[: each * len(WAYS)]
        for position, (way, copy) in enumerate(WAYS.items()):
            for i in drawn[position * each : (position + 1) * each]:
                new = folder / "train" / tested[i].parent.name / f"copy-{tested[i].stem}.jpg"
                copy(tested[i], new)
                copies[str(new)] = way
        named = {suspect.path for suspect in examine(folder, backbone=None)[0].findings["leaks"]}
    for way in WAYS:
        planted = {path for path, kind in copies.items() if kind == way}
        rows.append(row(f"leaks found, {way}", [len(named & planted) / max(1, len(planted))], ""))
    return [*rows, row("leaks named that were not planted", [len(named - set(copies))], "pictures")]


def _resized(old: Path) -> Image.Image:
    image = Image.open(old).convert("RGB")
    return image.resize((max(1, round(0.6 * image.width)), max(1, round(0.6 * image.height))), Image.Resampling.LANCZOS)


def _cropped(old: Path, share: float) -> Image.Image:
    image = Image.open(old).convert("RGB")
    w, h = image.size
    return image.crop((round(share * w), round(share * h), round((1 - share) * w), round((1 - share) * h)))
