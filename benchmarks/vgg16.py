"""VGG16 with Keras's weights end to end on hymenoptera: network, head and augmentation of the tutorial.

Fresh processes with an empty cache. `make bench-peers` holds the same beside Keras, over three seeds.
"""

from __future__ import annotations

from pathlib import Path

from harness import FULL, Effort, fit_fresh
from keras_frozen import RECIPE, VIEWS
from rows import Row, row


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return time and accuracy of the recipe `vgg16-frozen`: 150 px, flattened, an mlp of 256 with dropout 0.5."""
    fit = fit_fresh(
        data / "hymenoptera", **RECIPE | {"epochs": effort.epochs(10), "image_size": effort.side(RECIPE["image_size"])}
    )
    name = f"recipe vgg16-frozen ({VIEWS} views) alone"
    return [
        row(f"{name}: folder to tested model", [fit.seconds], "s"),
        row(f"{name}: accuracy", [fit.accuracy], "", at_least=0.863),
    ]
