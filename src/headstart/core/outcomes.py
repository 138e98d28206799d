"""What a model said of labelled pictures, one row a picture: what figures, reports and comparisons are made from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = "predictions.csv"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a model said of n labelled pictures.

    Attributes:
        classes: The c class names.
        paths: Where the pictures are.
        targets: int64 `(n,)`, indices into `classes`.
        probabilities: float32 `(n, c)`.
        novelty: float32 `(n,)`, how unlike the training pictures each is; None where the model does not say.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    novelty: np.ndarray | None = None

    @property
    def named(self) -> np.ndarray:
        """The most probable class of each picture, int64 `(n,)`."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def right(self) -> np.ndarray:
        """Whether that is its class, bool `(n,)`."""
        return np.asarray(self.named == self.targets)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the most probable class, float32 `(n,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each picture: the last two parts of its path, not the user's own folders."""
        return tuple("/".join(Path(path).parts[-2:]) for path in self.paths)

    def write_csv(self, folder: Path) -> None:
        """Write `predictions.csv` (path, label, predicted, probability, novelty); bytes not in UTF-8 are escaped."""
        with (folder / FILE).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "predicted", "probability", "novelty"])
            for row, name in enumerate(self.names):
                label, predicted = self.classes[self.targets[row]], self.classes[self.named[row]]
                novelty = "" if self.novelty is None else f"{self.novelty[row]:.6f}"
                writer.writerow([name, label, predicted, f"{self.confidence[row]:.6f}", novelty])
