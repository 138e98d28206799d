"""What the cached prefix saves: an epoch of training above it, against computing it in torch in every epoch.

The same training twice (same pictures, views, seed and settings). Without the cache, the layers below the cut run in
torch (eager, channels_last; autocast to bfloat16 where the processor has it) for each batch, from pixels that are
already decoded and augmented in memory, so that the ratio is of the prefix alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from harness import FULL, Effort, empty_cache
from rows import Row, row

VGG16 = {"image_size": 150, "pooling": "flatten", "head": "mlp"}
CASES: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("efficientnet_lite0", "blocks.6", {"image_size": 224}, 5),
    ("efficientnet_lite0", "blocks.5", {"image_size": 224}, 1.7),
    ("vgg16.keras", "block5", VGG16, 2.5),
)


def title(backbone: str, cut: str) -> str:
    return f"{backbone} from {cut}: times less per epoch with the cache"


BOUNDS = {title(backbone, cut): bound for backbone, cut, _, bound in CASES}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return pictures/s with and without the cache, and their ratio, for each cut."""
    from headstart.core.runtime import has_bfloat16

    precision = "bfloat16" if has_bfloat16() else "float32"
    rows: list[Row] = []
    for backbone, cut, parameters, bound in CASES:
        cached, plain = [], []
        for seed in effort.seeds:
            settings = {"backbone": backbone, "unfreeze": cut, "seed": seed, **parameters}
            if effort.quick:
                settings["image_size"] = effort.side()
            with empty_cache():
                cached.append(speed(data / "hymenoptera", settings, effort))
                with patch("headstart.learn.finetune.job.open_sources", every_epoch):
                    plain.append(speed(data / "hymenoptera", settings, effort))
        note = f"prefix in torch: {precision}"
        rows += [
            row(f"{backbone} from {cut}: training on the cache", cached, "pictures/s"),
            row(f"{backbone} from {cut}: training, prefix in torch every epoch", plain, "pictures/s", note=note),
            row(
                title(backbone, cut),
                [a / b for a, b in zip(cached, plain, strict=True)],
                "x",
                at_least=bound,
                note=note,
            ),
        ]
    return rows


def speed(data: Path, settings: dict[str, Any], effort: Effort) -> float:
    """Return the median pictures/s of the epochs of one training; the first, which warms up, does not count."""
    from headstart import ImageClassifier

    epochs = effort.epochs(4, 2)
    classifier = ImageClassifier(
        method="finetune", views=2, augmentation="flip", training={"epochs": epochs}, **settings
    ).fit(data)
    trained = classifier.history_[classifier.history_["stage"] == "finetune"]
    return float(np.median(trained["pictures_per_second"].iloc[1:]))


@dataclass(frozen=True)
class EveryEpoch:
    """A source of activations that are computed anew for every batch from uint8 pixels `(n, views, h, w, 3)`."""

    pixels: np.ndarray
    engine: Any
    views: int
    kind: str = "prefix"

    def batches(self, rows: Sequence[np.ndarray], view: int) -> Iterator[np.ndarray]:
        """Yield the activations of each run of rows."""
        for batch in rows:
            yield self.engine.run(np.ascontiguousarray(self.pixels[batch, view % self.views]))


def every_epoch(train, validation, backbone, how, cut, progress) -> tuple[EveryEpoch, EveryEpoch]:
    """Stand in for `open_sources`: decode and augment everything now, leave the prefix to every epoch."""
    from headstart.core.runtime import has_bfloat16
    from headstart.learn.features.engines import TorchEngine
    from headstart.learn.features.extract import see
    from headstart.networks import prefix

    engine = TorchEngine(prefix(backbone, cut), "cpu", "bfloat16" if has_bfloat16() else "float32")

    def source(pictures, views: int) -> EveryEpoch:
        seen = [
            see(picture, digest, list(range(views)), backbone, how)
            for picture, digest in zip(pictures.items, pictures.digests, strict=True)
        ]
        return EveryEpoch(np.array(seen), engine, views)

    return source(train, how.views), source(validation, 1)
