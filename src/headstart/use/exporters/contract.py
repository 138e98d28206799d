"""What every export format offers, and what an exported model is when it is read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from headstart.core.predictor import BATCH_SIZE, Predictor
from headstart.core.preprocessing import Preprocessing

Number = Literal["float32", "float16", "int8"]
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class How:
    """What an exporter writes.

    Attributes:
        number: What the weights are kept in: float16 halves the file and computes in float32 all the same; int8 keeps
            and computes what leads to the features in 8 bits.
        calibration: For int8: pictures as the network sees them, uint8 `(n, h, w, 3)`, whose activations set the
            ranges.
    """

    number: Number = "float32"
    calibration: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported model that was read back from its folder alone.

    Attributes:
        description: What it says of itself: classes, preprocessing, thresholds, versions.
        run: uint8 `(n, h, w, 3)` -> its outputs by name, float32, first axis n.
        engine: What runs it, with its version.
    """

    description: dict[str, Any]
    run: Run
    engine: str

    def probabilities(self, pictures: Sequence[bytes]) -> np.ndarray:
        """Return class probabilities `(n, c)` of picture files, through the preprocessing that the export carries."""
        return self.outputs(pictures)["probabilities"]

    def outputs(self, pictures: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Return every output of picture files, float32, first axis n."""
        preprocessing = Preprocessing.from_json(self.description["preprocessing"])
        parts = []
        for start in range(0, len(pictures), BATCH_SIZE):
            seen = [preprocessing.load(data) for data in pictures[start : start + BATCH_SIZE]]
            parts.append(self.run(np.stack(seen)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Exporter(Protocol):
    """A module that writes one format and reads it back."""

    PRECISIONS: tuple[Number, ...]

    def export(self, predictor: Predictor, folder: Path, how: How) -> None:
        """Write the model of a predictor into an existing, empty folder.

        Raises:
            SettingError: A package is missing, or the predictor has no model folder where one is needed.
        """

    def describe_again(self, folder: Path, description: dict[str, Any]) -> None:
        """Let an exported model say something else of itself; the network stays. Only where int8 is in `PRECISIONS`."""

    def load(self, folder: Path) -> Exported:
        """Read an exported model back, from its folder alone.

        Raises:
            ModelError: It is damaged, or its parts are not of one model.
        """
