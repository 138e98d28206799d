"""A model folder that is complete but for what is made from it: what a report gets to see of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from headstart.core.metrics import Evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Finished:
    """What a fit has made, before the folder takes its place.

    Attributes:
        folder: The folder that is being written; a file put there becomes a part of the model folder.
        description: What `model.json` will say, but for the files' hashes.
        predictor: The saved model.
        evaluation: The figures that are reported.
        outcomes: What was said of the pictures behind them.
        history: One row an epoch.
        set_aside: `(path, reason)` of the pictures that were left out.
        notes: What was notable of the data and the result, one sentence each.
        network: Backbone and classifier as torch modules, the pair that `networks.load_network` would return.
    """

    folder: Path
    description: dict[str, Any]
    predictor: Predictor
    evaluation: Evaluation
    outcomes: Outcomes
    history: tuple[dict[str, Any], ...]
    set_aside: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    network: Any = None


Finish: TypeAlias = Callable[[Finished], None]
