"""Measuring a saved model on labelled pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core import digests
from headstart.core.errors import SettingError
from headstart.core.metrics import ClassFigures, Evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.predictor import Predictor
from headstart.core.progress import Progress
from headstart.core.slices import Slices, slices
from headstart.learn.audit import audit, set_aside
from headstart.learn.dataset import Dataset, check_known, read_dataset_of, targets_for
from headstart.learn.features.records import Records
from headstart.learn.listing import some
from headstart.learn.save import measure
from headstart.learn.units import find_units


@dataclass(frozen=True, eq=False)
class DataEvaluation:
    """Figures of a model on data, and what the data were.

    Attributes:
        evaluation: The figures.
        outcomes: What the model said of each picture.
        set_aside: `(path, reason)` of the pictures that cannot be read.
        seen_in_training: How many of the pictures the model was trained on, byte for byte.
        slices: Figures by the values of the manifest's other columns; None where it has none.
    """

    evaluation: Evaluation
    outcomes: Outcomes
    set_aside: tuple[tuple[str, str], ...]
    seen_in_training: int
    slices: Slices | None = None

    def class_rows(self) -> list[tuple[str, ...]]:
        """Return `(class, pictures, precision, recall, most often taken for)` as text, for the classes that occur.

        With several labels a picture the last is the average precision, and the threshold.
        """
        rows: list[tuple[str, ...]] = []
        confusion = np.asarray(self.evaluation.confusion)
        for index, (name, figures) in enumerate(zip(self.evaluation.classes, self.evaluation.per_class, strict=True)):
            if not figures.support:
                continue
            if self.evaluation.several_labels:
                last = _own(figures)
            else:
                wrong = confusion[index].copy()
                wrong[index] = 0
                last = f"{self.evaluation.classes[int(wrong.argmax())]} ({wrong.max()})" if wrong.max() else ""
            rows.append((name, f"{figures.support:,}", figures.precision.text, figures.recall.text, last))
        return rows


def _own(figures: ClassFigures) -> str:
    assert figures.average_precision is not None
    return f"{figures.average_precision.text} at {figures.threshold:.3f}"


def evaluate_on(
    predictor: Predictor, data: Any, *, part: str | None = None, seed: int = 0, progress: Progress | None = None
) -> DataEvaluation:
    """Measure a saved model on labelled pictures.

    Args:
        predictor: The model.
        data: Folder, manifest or DataFrame with the model's classes (not necessarily all of them).
        part: Only the pictures of this split (`train`, `validation`, `test`) of the data.
        seed: Of the bootstrap.
        progress: Is shown the steps, and told when pictures were trained on.

    Raises:
        DataError: The data cannot be read, or have a class that the model does not know.
        SettingError: The data have no such split.
    """
    progress = progress or Progress()
    dataset = read_dataset_of(data, predictor.description)
    if part is not None:
        dataset = _part(dataset, part)
    check_known(dataset, predictor.classes)  # before every picture is read
    with progress.step("check pictures", len(dataset.paths)) as update, Records() as known:
        records = audit(dataset.paths, store=known, progress=lambda done, total: update(done))
    dataset, kept, aside = set_aside(dataset, records, for_training=False)
    learned = digests.trained_on(predictor.description)
    seen = sum(digests.short(record.digest) in learned for record in kept)
    if "export" in predictor.description:
        progress.note(
            "an exported model does not say which pictures it was trained on: make sure that these are others.",
            report=True,
        )
    if seen:
        progress.note(f"{seen:,} of the {len(kept):,} pictures were trained on: the figures are too good by that.")
    targets = targets_for(dataset, predictor.classes)
    if dataset.several_labels and (absent := [name for name in predictor.classes if name not in dataset.classes]):
        line = f"No picture of {dataset.source} has these labels, which are not judged: {some(absent)}."
        progress.note(line, report=True)
    units = find_units(kept, dataset.groups).of
    evaluation, outcomes = measure(predictor, dataset.paths, targets, units, seed=seed, progress=progress)
    return DataEvaluation(evaluation, outcomes, tuple(aside), seen, _slices(dataset, outcomes))


def _slices(dataset: Dataset, outcomes: Outcomes) -> Slices | None:
    """Return figures by the values of the data's other columns, where there are any."""
    if dataset.columns is None:
        return None
    columns = {str(name): dataset.columns.iloc[:, place].tolist() for place, name in enumerate(dataset.columns.columns)}
    return slices(columns, outcomes)


def _part(dataset: Dataset, part: str) -> Dataset:
    present = sorted({str(name) for name in dataset.splits}) if dataset.splits is not None else []
    if part not in present:
        there = f"it has {', '.join(present)}" if present else "it has none"
        raise SettingError(f"{dataset.source} has no split {part!r}: {there}. Leave --split out to take all pictures.")
    return dataset.subset(np.flatnonzero(dataset.splits == part))
