"""fastai as its documentation shows it: default augmentation and `fine_tune`, on EfficientNet-Lite0's own weights.

Runs in an environment without headstart and prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from fastai.vision.all import (
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    ImageBlock,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)
from safetensors.torch import load_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    set_seed(given.seed)
    table = pd.read_csv(given.manifest)
    table["is_valid"] = table["split"] == "test"
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=ColReader("path"),
        get_y=ColReader("label"),
        splitter=ColSplitter(),
        item_tfms=Resize(224),
        batch_tfms=[*aug_transforms(), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
    )
    # `pretrained=False` because the weights come from a file; `fine_tune` freezes the body by itself.
    learner = vision_learner(
        block.dataloaders(table), "tf_efficientnet_lite0", pretrained=False, normalize=False, metrics=accuracy
    )
    body = learner.model[0].model
    missing = body.load_state_dict(
        {name: t for name, t in load_file(given.weights).items() if not name.startswith("classifier.")}, strict=False
    )
    assert missing.missing_keys == missing.unexpected_keys == [], missing
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(given.epochs)
        right = float(learner.validate()[1])
    names = ("fastai", "torch", "timm")
    print(json.dumps({"accuracy": right, "versions": ", ".join(f"{name} {version(name)}" for name in names)}))


if __name__ == "__main__":
    main()
