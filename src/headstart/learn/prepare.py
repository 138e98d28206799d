"""From what the user names to pictures that are checked, counted and split: the first half of every `fit`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core.progress import Progress
from headstart.learn.audit import Record, audit, set_aside
from headstart.learn.dataset import Dataset, read_dataset
from headstart.learn.features.pictures import Pictures
from headstart.learn.features.records import Records
from headstart.learn.several import SeveralLabels
from headstart.learn.shares import TEST_SIZE, VALIDATION_SIZE
from headstart.learn.split import Split, needs_cross_validation, rare_classes, split


@dataclass(frozen=True, eq=False)
class Prepared:
    """Checked pictures and which of them train, validate and test.

    Attributes:
        dataset: The readable pictures.
        records: What the audit found about each of them, in the same order.
        split: Indices into the dataset.
        set_aside: `(path, reason)` of the pictures that cannot be read or would leak.
        cross_validate: Whether the pictures are too few for a test set to mean anything; see `needs_cross_validation`.
    """

    dataset: Dataset
    records: tuple[Record, ...]
    split: Split
    set_aside: tuple[tuple[str, str], ...]
    cross_validate: bool

    @property
    def fingerprint(self) -> str:
        """A hash of all pictures' bytes and labels; names, folders and order (of columns too) do not matter."""
        named = (";".join(sorted(self.dataset.labels(row))) for row in range(len(self.records)))
        lines = sorted(f"{record.digest} {name}" for record, name in zip(self.records, named, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def digests(self) -> list[str]:
        """The digest of each picture's bytes."""
        return [record.digest for record in self.records]

    def pictures(self, rows: Sequence[int] | np.ndarray | None = None) -> Pictures:
        """Return pictures with their digests, by their rows; None is all."""
        everything = Pictures(self.dataset.paths, tuple(self.digests))
        return everything if rows is None else everything.some(rows)

    def training_rows(self) -> list[int]:
        """Return the rows that the saved head is fitted on: all but the test pictures."""
        if self.cross_validate:
            return list(range(len(self.records)))
        return [*self.split.train.tolist(), *self.split.validation.tolist()]

    def parts(self) -> dict[str, np.ndarray]:
        """The rows of each part; under cross-validation nothing is set apart, and all are learned from."""
        if self.cross_validate:
            nothing = np.zeros(0, np.int64)
            return {"train": np.arange(len(self.records)), "validation": nothing, "test": nothing}
        return {"train": self.split.train, "validation": self.split.validation, "test": self.split.test}

    def counts(self) -> dict[str, int]:
        """How many pictures each part has."""
        return {part: len(rows) for part, rows in self.parts().items()}

    def report(self) -> dict[str, Any]:
        """Return what `headstart check` tells, as plain values."""
        dataset = self.dataset
        counted = {part: dataset.pictures_by_class(rows) for part, rows in self.parts().items()}
        by_class = {
            name: {part: int(counts[index]) for part, counts in counted.items()}
            for index, name in enumerate(dataset.classes)
        }
        return {
            "data": dataset.source,
            "counts": self.counts(),
            "classes": by_class,
            "set_aside": [{"path": path, "reason": reason} for path, reason in self.set_aside],
            "skipped": dataset.skipped,
            "kept_together": self.split.kept_together,
            "evaluation": "repeated cross-validation" if self.cross_validate else "test pictures",
        }


def prepare(
    data: Any,
    labels: Any = None,
    *,
    several: SeveralLabels | None = None,
    validation: float = VALIDATION_SIZE,
    test: float = TEST_SIZE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """Read, audit and split labelled pictures.

    Args:
        data: Folder, manifest, DataFrame, or pictures' paths with `labels`.
        labels: One label for each path, where `data` is a list of paths.
        several: How several labels of a picture are written; None where each has one class.
        validation: Share of the pictures for choosing, where the data do not say.
        test: Share of the pictures that is touched once, at the end, where the data do not say.
        seed: Of the split.
        progress: Is shown the pictures read, and told what is notable.

    Raises:
        DataError: The data cannot be learned from; every problem is in the message.
    """
    progress = progress or Progress()
    dataset = read_dataset(data, labels, several=several, collect=True)
    with progress.step("check pictures", len(dataset.paths)) as update, Records() as known:
        records = audit(dataset.paths, store=known, progress=lambda done, total: update(done))
    dataset, kept, unreadable = set_aside(dataset, records)
    parts = split(dataset, kept, validation=validation, test=test, seed=seed)
    cross_validate = needs_cross_validation(dataset, parts)
    rare = [] if cross_validate else rare_classes(dataset, parts)
    for warning in (*dataset.warnings, *parts.warnings, *rare):
        progress.note(warning, report=True)
    return Prepared(dataset, kept, parts, (*unreadable, *parts.dropped), cross_validate)
