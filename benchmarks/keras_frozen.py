"""Recipe `vgg16-frozen` against the same recipe in plain Keras: end to end on hymenoptera, both with Keras's weights.

Keras runs as the tutorial writes it (`rescale=1/255`) and with the right `preprocess_input`; headstart with as many
views as epochs (training with fresh augmentation every epoch) and with the recipe's own number. Wall time of fresh
processes, imports included, an empty cache, both sides in turn. Keras's accuracy is that after the last epoch.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from harness import FULL, Effort, fit_fresh, run_peer, write_vgg16
from rows import Row, row

from headstart.learn.recipes import load_recipe

RECIPE = load_recipe("vgg16-frozen").parameters
EPOCHS, VIEWS = RECIPE["epochs"], RECIPE["views"]
SPEED_ALL = "vgg16-frozen, as many views as epochs: times faster than Keras"
SPEED = f"vgg16-frozen, {VIEWS} views: times faster than Keras"
ACCURACY_ALL = "vgg16-frozen, as many views as epochs: accuracy"
ACCURACY = f"vgg16-frozen, {VIEWS} views: accuracy"
BOUNDS = {SPEED_ALL: 3.5, SPEED: 8, ACCURACY_ALL: 0.863, ACCURACY: 0.863}


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return times, ratios and mean accuracies over seeds; the tutorial's own scaling runs once."""
    folder, epochs, side = data / "hymenoptera", effort.epochs(EPOCHS, 2), effort.side(RECIPE["image_size"])
    recipe = RECIPE | {"epochs": epochs, "image_size": side}
    with tempfile.TemporaryDirectory() as temporary:
        weights = write_vgg16(Path(temporary) / "vgg16.npz")
        options = ["frozen", folder, weights, "--epochs", epochs, "--side", side]
        tutorial = run_peer("keras_vgg16.py", *options, "--scaling", "rescale")
        keras, every, few, own = [], [], [], []
        for seed in effort.seeds:
            keras.append(run_peer("keras_vgg16.py", *options, "--seed", seed))
            every.append(fit_fresh(folder, **recipe | {"views": epochs, "seed": seed}))
            few.append(fit_fresh(folder, **recipe | {"views": min(VIEWS, epochs), "seed": seed}))
            defaults = {"backbone": "vgg16.keras", "method": "frozen", "image_size": effort.side()}
            own.append(fit_fresh(folder, **defaults, seed=seed))
    note, mean = tutorial["versions"], statistics.mean
    walls = [run["wall"] for run in keras]

    def ratio(fits: list) -> list[float]:
        return [wall / fit.seconds for wall, fit in zip(walls, fits, strict=True)]

    def right(fits: list) -> list[float]:
        return [fit.accuracy for fit in fits]

    return [
        row("Keras, vgg16-frozen as in the tutorial (rescale=1/255)", [tutorial["wall"]], "s", note=note),
        row("Keras, the same: accuracy", [tutorial["accuracy"]], "", note=note),
        row("Keras, vgg16-frozen with preprocess_input", walls, "s", note=note),
        row("Keras, the same: mean accuracy", [run["accuracy"] for run in keras], "", middle=mean, note=note),
        row("vgg16-frozen, as many views as epochs", [fit.seconds for fit in every], "s"),
        row(SPEED_ALL, ratio(every), "x", at_least=BOUNDS[SPEED_ALL], note=note),
        row(ACCURACY_ALL, right(every), "", at_least=BOUNDS[ACCURACY_ALL], middle=mean),
        row(f"vgg16-frozen, {VIEWS} views", [fit.seconds for fit in few], "s"),
        row(SPEED, ratio(few), "x", at_least=BOUNDS[SPEED], note=note),
        row(ACCURACY, right(few), "", at_least=BOUNDS[ACCURACY], middle=mean),
        row("vgg16.keras with headstart's defaults", [fit.seconds for fit in own], "s"),
        row("vgg16.keras with headstart's defaults: accuracy", right(own), "", middle=mean),
    ]
