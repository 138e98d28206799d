"""What a model said of labelled pictures, one row a picture: what figures, reports and comparisons are made from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.core.digests import short
from headstart.core.metrics import Evaluation, evaluate
from headstart.core.text import short_name

FILE = "predictions.csv"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a model said of n labelled pictures.

    Attributes:
        classes: The c class names.
        paths: Where the pictures are.
        targets: int64 `(n,)`, indices into `classes`; or bool `(n, c)`, where pictures have several labels.
        probabilities: float32 `(n, c)`.
        novelty: float32 `(n,)`, how unlike the training pictures each is; None where the model does not say.
        thresholds: `(c,)`, from which probability on a label is given, where pictures have several; None is 0.5.
        units: int64 `(n,)`, equal for pictures that are the same, nearly the same or of one group; None where that is
            not known.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    novelty: np.ndarray | None = None
    thresholds: np.ndarray | None = None
    units: np.ndarray | None = None

    @property
    def several_labels(self) -> bool:
        """Whether a picture may have several labels."""
        return self.targets.ndim == 2

    @property
    def named(self) -> np.ndarray:
        """The most probable class of each picture, int64 `(n,)`; with several labels those given, bool `(n, c)`."""
        if self.several_labels:
            return np.asarray(self.probabilities >= (0.5 if self.thresholds is None else self.thresholds))
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def right(self) -> np.ndarray:
        """Whether that is its class, or all of its labels, bool `(n,)`."""
        same = np.asarray(self.named == self.targets)
        return same if same.ndim == 1 else np.asarray(same.all(axis=1))

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the most probable class, float32 `(n,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each picture: the last two parts of its path, not the user's own folders."""
        return tuple(map(short_name, self.paths))

    def evaluate(self, seed: int = 0) -> Evaluation:
        """Return the figures of what was said; see `core/metrics.evaluate`."""
        return evaluate(
            self.targets, self.probabilities, self.classes, seed=seed, thresholds=self.thresholds, units=self.units
        )

    def write_csv(self, folder: Path, digests: Mapping[str, str] | None = None) -> None:
        """Write `predictions.csv` (path, label, predicted, probability, novelty, digest); bytes not UTF-8 are escaped.

        The path is short, so several pictures may have it; the digest, half of that of the content, tells them apart.

        Several labels are joined by `;`, and the probability is that of the most probable one; then there are columns
        `label:NAME` (0 or 1) and `probability:NAME` for each label too.

        Args:
            folder: Where the file goes.
            digests: By path; without them the column is empty.
        """
        known = digests or {}
        with (folder / FILE).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer, named = csv.writer(file), self.named
            several = self.classes if self.several_labels else ()
            kinds = [f"{kind}:{name}" for kind in ("label", "probability") for name in several]
            writer.writerow(["path", "label", "predicted", "probability", "novelty", "digest", *kinds])
            for row, name in enumerate(self.names):
                label, predicted = self._text(self.targets[row]), self._text(named[row])
                novelty = "" if self.novelty is None else f"{self.novelty[row]:.6f}"
                each = [*map(int, self.targets[row]), *(f"{p:.9g}" for p in self.probabilities[row])] if several else []
                digest = short(known.get(self.paths[row], ""))
                writer.writerow([name, label, predicted, f"{self.confidence[row]:.6f}", novelty, digest, *each])

    def _text(self, target: np.ndarray) -> str:
        return ";".join(self.classes[index] for index in (np.flatnonzero(target) if target.ndim else [target]))
