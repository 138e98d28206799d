"""The VGG16 tutorials in plain Keras, with Keras's own ImageNet weights.

`frozen`: 150 px, frozen base, Flatten, Dense 256, Dropout 0.5, softmax; rotation 15, shifts 0.1, zoom 0.1, flip.
`last4`: 224 px, the base's last four layers (block5 with its pooling) unfrozen, Dense 128, Dropout 0.5, one sigmoid;
rotation 20, zoom 0.2, flip. Runs in an environment without headstart and prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

ImageDataGenerator = tf.keras.preprocessing.image.ImageDataGenerator


class Clock(keras.callbacks.Callback):
    """Times epochs, and the validation inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start, self.validation = time.perf_counter(), 0.0

    def on_test_begin(self, logs=None):
        self.test_start = time.perf_counter()

    def on_test_end(self, logs=None):
        self.validation += time.perf_counter() - self.test_start

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        accuracy = float((logs or {})["val_accuracy"])
        self.epochs.append({"seconds": seconds, "training": seconds - self.validation, "val_accuracy": accuracy})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=["frozen", "last4"])
    parser.add_argument("data", type=Path, help="folder with train/ and val/ above the class folders")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--scaling", choices=["preprocess_input", "rescale"], default="preprocess_input")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--side", type=int, help="pixels, instead of 150 or 224")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    keras.utils.set_random_seed(given.seed)
    frozen = given.stage == "frozen"
    size = (given.side or (150 if frozen else 224),) * 2

    scaling = (
        {"rescale": 1 / 255}
        if given.scaling == "rescale"
        else {"preprocessing_function": keras.applications.vgg16.preprocess_input}
    )
    moving = (
        {"rotation_range": 15, "width_shift_range": 0.1, "height_shift_range": 0.1, "zoom_range": 0.1}
        if frozen
        else {"rotation_range": 20, "zoom_range": 0.2}
    )
    mode = "categorical" if frozen else "binary"
    train = ImageDataGenerator(horizontal_flip=True, **moving, **scaling).flow_from_directory(
        given.data / "train", target_size=size, batch_size=32, class_mode=mode, seed=given.seed
    )
    validation = ImageDataGenerator(**scaling).flow_from_directory(
        given.data / "val", target_size=size, batch_size=32, class_mode=mode, shuffle=False
    )
    model = build(given.weights, size, frozen)
    clock = Clock()
    model.fit(train, validation_data=validation, epochs=given.epochs, callbacks=[clock], verbose=0)
    result = {
        "seconds": time.perf_counter() - start,
        "accuracy": clock.epochs[-1]["val_accuracy"],
        "per_epoch": clock.epochs,
        "pictures": train.samples,
        "versions": f"tensorflow {tf.__version__}, keras {keras.__version__}",
    }
    print(json.dumps(result))


def build(weights: Path, size: tuple[int, int], frozen: bool) -> keras.Model:
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(*size, 3))
    arrays = np.load(weights)
    for layer in base.layers:
        if "_conv" in layer.name:
            layer.set_weights([arrays[f"{layer.name}/kernel"], arrays[f"{layer.name}/bias"]])
    for layer in base.layers if frozen else base.layers[:-4]:
        layer.trainable = False
    top = (
        [layers.Dense(256, activation="relu"), layers.Dropout(0.5), layers.Dense(2, activation="softmax")]
        if frozen
        else [layers.Dense(128, activation="relu"), layers.Dropout(0.5), layers.Dense(1, activation="sigmoid")]
    )
    model = keras.Sequential([base, layers.Flatten(), *top])
    model.compile(
        optimizer=keras.optimizers.Adam() if frozen else keras.optimizers.Adam(1e-5),
        loss="categorical_crossentropy" if frozen else "binary_crossentropy",
        metrics=["accuracy"],
    )
    return model


if __name__ == "__main__":
    main()
