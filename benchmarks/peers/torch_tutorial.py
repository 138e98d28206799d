"""The PyTorch transfer-learning tutorial's loop, all layers trained, on EfficientNet-Lite0.

float32, default memory layout, batches of 4, RandomResizedCrop + flip, SGD 0.001 with momentum 0.9, StepLR(7, 0.1),
4 loader workers. Only the network, its normalisation and the list of pictures differ. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

NORMALIZE = transforms.Normalize([0.5] * 3, [0.5] * 3)
TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), NORMALIZE]
)
TEST = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), NORMALIZE])


class Pictures(Dataset):
    def __init__(self, rows, classes, transform):
        self.rows, self.classes, self.transform = rows, classes, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return self.transform(Image.open(row["path"]).convert("RGB")), self.classes.index(row["label"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    with given.manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    parts = {part: [row for row in rows if row["split"] == part] for part in ("train", "test")}
    loaders = {
        part: DataLoader(
            Pictures(parts[part], classes, TRAIN if part == "train" else TEST),
            batch_size=4,
            shuffle=True,
            num_workers=4,
        )
        for part in parts
    }
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(load_file(given.weights))
    model.classifier = nn.Linear(model.classifier.in_features, len(classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    epochs = []
    for _ in range(given.epochs):
        seconds, accuracy = {}, {}
        for part in ("train", "test"):
            start, right = time.perf_counter(), 0
            model.train(part == "train")
            for inputs, labels in loaders[part]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(part == "train"):
                    outputs = model(inputs)
                    loss = criterion(outputs, labels)
                    if part == "train":
                        loss.backward()
                        optimizer.step()
                right += int((outputs.argmax(1) == labels).sum())
            if part == "train":
                scheduler.step()
            seconds[part], accuracy[part] = time.perf_counter() - start, right / len(parts[part])
        epochs.append(
            {"training": seconds["train"], "seconds": sum(seconds.values()), "val_accuracy": accuracy["test"]}
        )
    result = {
        "accuracy": epochs[-1]["val_accuracy"],
        "best": max(one["val_accuracy"] for one in epochs),
        "per_epoch": epochs,
        "pictures": len(parts["train"]),
        "versions": f"torch {torch.__version__}, timm {timm.__version__}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
