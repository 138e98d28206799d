"""Second stage of `vgg16-binary` at 224 px: an epoch with the base's last four layers unfrozen, in Keras and here.

Keras's `base.layers[-4:]` are the three convolutions of block5 and its pooling, so the equal of it is
`unfreeze="block5"`, which is judged; `unfreeze=4`, four layers with parameters, is one convolution more. Compared is
what an epoch trains (validation apart on both sides), for as many pictures; the prefix is told apart.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import FULL, Effort, Fit, fit_fresh, run_peer, write_vgg16
from rows import Row, row

from headstart.learn.recipes import load_recipe

RECIPE = load_recipe("vgg16-binary").parameters
VIEWS = 2
SPEED = "vgg16-binary, block5 unfrozen: times less per epoch than Keras"
BOUNDS = {SPEED: 5}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return seconds an epoch on both sides and their ratio; `low` and `high` are over epochs."""
    folder = data / "hymenoptera"
    epochs, side = effort.epochs(2), effort.side(RECIPE["image_size"])
    with tempfile.TemporaryDirectory() as temporary:
        weights = write_vgg16(Path(temporary) / "vgg16.npz")
        keras = run_peer("keras_vgg16.py", "last4", folder, weights, "--epochs", epochs, "--side", side)
    same, four = fit(folder, "block5", effort), fit(folder, 4, effort)
    note = keras["versions"]
    slow = [epoch["training"] for epoch in keras["per_epoch"]]
    fast = scaled(same, keras["pictures"])
    return [
        row(
            "Keras, last 4 layers: an epoch with validation", [e["seconds"] for e in keras["per_epoch"]], "s", note=note
        ),
        row("Keras, last 4 layers: of that, training", slow, "s", note=note),
        row("vgg16-binary, block5 unfrozen: training of an epoch", fast, "s"),
        row("vgg16-binary, block5 unfrozen: prefix, for each view", [same.prefix_seconds() / VIEWS], "s"),
        # The best of Keras's epochs against all of ours: its first one also builds the graph.
        row(SPEED, [min(slow) / one for one in fast], "x", at_least=BOUNDS[SPEED], note=note),
        row("vgg16-binary, unfreeze=4: training of an epoch", scaled(four, keras["pictures"]), "s"),
        row("vgg16-binary, unfreeze=4: prefix, for each view", [four.prefix_seconds() / VIEWS], "s"),
    ]


def fit(folder: Path, unfreeze: str | int, effort: Effort) -> Fit:
    """Fine-tune by the recipe for a few epochs, on two views."""
    changes = {"unfreeze": unfreeze, "epochs": effort.epochs(10), "views": VIEWS}
    training = {**RECIPE["training"], "epochs": effort.epochs(4, 2)}
    side = effort.side(RECIPE["image_size"])
    return fit_fresh(folder, **RECIPE | changes | {"training": training, "image_size": side})


def scaled(one: Fit, pictures: int) -> list[float]:
    """Return the seconds of each epoch but the first, as if it had trained on this many pictures."""
    return [seconds * pictures / one.counts["train"] for seconds in one.epochs()[1:]]
