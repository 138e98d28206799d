"""Labelled pictures as headstart knows them: `Dataset`, read from a folder, a manifest, a DataFrame or two lists.

Reading looks at names only; whether the pictures themselves can be read is the business of `learn.audit`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headstart.core import images
from headstart.core.errors import DataError, SettingError
from headstart.core.text import count
from headstart.learn.folder import read_folder
from headstart.learn.listing import Listing, data_error, shown, some
from headstart.learn.manifest import MANIFEST_SUFFIXES, read_frame, read_manifest, read_sequences
from headstart.learn.several import SeveralLabels, as_matrix, seems_several, several_labels_of

# One to learn from and one to test on.
MIN_PICTURES = 2


@dataclass(frozen=True, eq=False)
class Dataset:
    """`n` labelled pictures of `c` classes.

    Attributes:
        paths: Absolute path of each picture.
        targets: int64 array `(n,)`, index into `classes`; or, where pictures have several labels, bool array `(n, c)`.
        classes: The class names in their order: of label columns that of the columns, of labels that are numbers that
            of their values, else that of their text.
        splits: Object array `(n,)` of 'train', 'validation' and 'test', or None when the source has no splits.
        groups: Object array `(n,)` of str, None for a picture that belongs to no group; or None altogether.
        skipped: How many files or folders were left out, by kind: 'hidden', 'not pictures' and others.
        source: What was read, for messages.
        columns: Other columns of the manifest, a pandas DataFrame of `n` rows, or None.
        warnings: Lines that a person should see.
        problems: Lines that make the pictures unfit, not raised yet; see `read_dataset`.
    """

    paths: tuple[str, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray | None = None
    groups: np.ndarray | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    source: str = "the pictures"
    columns: Any = None
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def several_labels(self) -> bool:
        """Whether a picture may have several labels, or none."""
        return self.targets.ndim == 2

    @property
    def activation(self) -> str:
        """What makes probabilities of a head's logits: `softmax`, or `sigmoid` where pictures have several labels."""
        return "sigmoid" if self.several_labels else "softmax"

    def label(self, row: int) -> str:
        """Return the class of a picture, or all of its labels with `;` between them."""
        return ";".join(self.labels(row))

    def labels(self, row: int) -> tuple[str, ...]:
        """Return the class of a picture, or all of its labels."""
        target = self.targets[row]
        return tuple(self.classes[index] for index in (np.flatnonzero(target) if target.ndim else [target]))

    def pictures_by_class(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return how many pictures have each class, int64 `(c,)`; of all, or of those in `rows` (indices or bool)."""
        return count_classes(self.targets if rows is None else self.targets[rows], len(self.classes))

    def subset(self, indices: Iterable[int] | np.ndarray) -> Dataset:
        """Return the pictures at `indices` in that order; the classes stay as they are.

        Args:
            indices: Whole numbers into the pictures, or a boolean array of shape `(n,)`.
        """
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            targets=self.targets[chosen],
            splits=None if self.splits is None else self.splits[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            columns=None if self.columns is None else self.columns.iloc[chosen].reset_index(drop=True),
        )


def count_classes(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how many pictures have each class, int64 `(c,)`, of targets int `(n,)` or bool `(n, c)`."""
    return targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=num_classes)


def check_known(dataset: Dataset, classes: Sequence[str]) -> None:
    """Check that a model knows every class of the data, which need not have all of the model's.

    Raises:
        DataError: It does not know one.
    """
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{dataset.source} has classes that the model does not know: {', '.join(map(repr, unknown[:5]))}"
            f"{' …' if len(unknown) > 5 else ''}. The model knows {', '.join(map(repr, classes[:5]))}"
            f"{' …' if len(classes) > 5 else ''}; rename the folders or labels."
        )


def targets_for(dataset: Dataset, classes: Sequence[str]) -> np.ndarray:
    """Return the targets as a model has them.

    Args:
        dataset: n pictures of some of the model's classes.
        classes: The c class names of the model, in its order.

    Returns:
        int64 `(n,)`, indices into `classes`; bool `(n, c)` where pictures have several labels.

    Raises:
        DataError: The model does not know a class of the data.
    """
    check_known(dataset, classes)
    places = np.array([classes.index(name) for name in dataset.classes], np.int64)
    if not dataset.several_labels:
        return np.asarray(places[dataset.targets])
    targets = np.zeros((len(dataset), len(classes)), bool)
    targets[:, places] = dataset.targets
    return targets


def read_dataset(
    data: Any,
    labels: Any = None,
    *,
    several: SeveralLabels | None = None,
    for_training: bool = True,
    collect: bool = False,
) -> Dataset:
    """Read labelled pictures and tell everything that is wrong with them at once.

    Args:
        data: A folder with one folder for each class, or with train/val/test folders above those; a CSV, TSV
            or Parquet file with the columns `path,label[,split][,group]`, paths relative to it; a pandas
            DataFrame with those columns, paths relative to the working directory; or paths of pictures.
        labels: One label for each path, if `data` is a sequence of paths; else None.
        several: How several labels of a picture are written, which a folder of class folders cannot have; None where
            each picture has one class.
        for_training: Check also that a classifier can be learned and tested: two classes or more, enough
            pictures in each, the same classes in every split. New pictures to evaluate on need none of that.
        collect: Keep problems in `Dataset.problems` instead of raising them, so that `audit.set_aside` can
            raise them together with the unreadable pictures. What leaves no pictures at all is always raised.

    Returns:
        The pictures; class folders and files in the order of their names, rows in the order they were given.

    Raises:
        DataError: The pictures cannot be used; a line for each problem.
        SettingError: `labels` is given although `data` brings its own.
    """
    listing = _list(data, labels, several)
    if listing.empty:
        line = f"class folders without a picture: {some(listing.empty)}. Add pictures or remove them."
        (listing.problems if for_training else listing.warnings).append(line)
    if twice := [name for name, number in Counter(listing.classes or ()).items() if number > 1]:
        listing.problems.append(f"more than one column is the label {some(twice)}. Rename or remove all but one.")
    dataset = _dataset(listing, several is not None)
    problems, warnings = list(listing.problems), list(listing.warnings)
    if for_training and dataset.paths and not collect:
        more = check(dataset)
        problems += more[0]
        warnings += more[1]
    if not dataset.paths and not problems:
        problems.append("no pictures were found in it.")
    if problems and (not collect or not dataset.paths):
        raise data_error(dataset.source, problems, warnings)
    return replace(dataset, problems=tuple(problems), warnings=tuple(warnings))


def read_dataset_of(data: Any, description: Mapping[str, Any]) -> Dataset:
    """Read the labelled pictures that a saved model is used on: several labels are written as those it learned from.

    Args:
        data: As for `read_dataset`.
        description: The model's `model.json`.

    Raises:
        DataError: The data cannot be read, or some of it is wrong.
    """
    return read_dataset(data, several=several_labels_of(description), for_training=False, collect=True)


def own_test_split(dataset: Dataset) -> str | None:
    """Return the name of the split that is the untouched test set, or None when the source has none.

    With only train and validation the second is the test set, and validation is cut from train.
    """
    roles = set() if dataset.splits is None else set(dataset.splits)
    return next((role for role in ("test", "validation") if role in roles), None)


def check(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return what hinders learning a classifier from these pictures: lines of problems, lines of warnings."""
    problems: list[str] = []
    warnings: list[str] = []
    totals = dataset.pictures_by_class()
    if dataset.several_labels:
        everywhere = [name for name, total in zip(dataset.classes, totals, strict=True) if total == len(dataset)]
        if everywhere:
            problems.append(f"labels that every picture has: {some(everywhere)}. Nothing tells them: remove them.")
    elif one := seems_several(dataset.classes):
        warnings.append(
            f"{one!r} looks like several labels, and is taken for one class. If it is several, choose output "
            "multilabel (docs/multi-label.md)."
        )
    present = [name for name, total in zip(dataset.classes, totals, strict=True) if total]
    if len(present) < (1 if dataset.several_labels else 2):
        names = some(present) or "none"
        problems.append(f"{count(len(present), 'class', 'classes')} ({names}) where at least two are needed.")
    test = own_test_split(dataset)
    if dataset.splits is None or test is None:
        few = [f"{name} ({n})" for name, n in zip(dataset.classes, totals, strict=True) if n < MIN_PICTURES]
        if few:
            problems.append(
                f"classes with fewer than {MIN_PICTURES} pictures: {some(few)}. Add pictures or remove them."
            )
        return problems, warnings
    learned = dataset.splits == "train"
    trained = set(np.flatnonzero(dataset.pictures_by_class(learned)).tolist())
    if not learned.any():
        problems.append("no picture is in the split train. Name the folder or the split of those to learn from train.")
        return problems, warnings
    for role in ("validation", "test"):
        tested = set(np.flatnonzero(dataset.pictures_by_class(dataset.splits == role)).tolist())
        unknown = [dataset.classes[i] for i in sorted(tested - trained)]
        if unknown:
            problems.append(f"classes in {role} but not in train: {some(unknown)}. Add them to train or remove them.")
        untested = [dataset.classes[i] for i in sorted(trained - tested)]
        if tested and untested:
            warnings.append(f"classes in train but not in {role}, so not judged there: {some(untested)}.")
    missing = [dataset.classes[i] for i in np.flatnonzero(totals == 0)]
    if missing:
        problems.append(f"classes without a picture: {some(missing)}. Add pictures or remove them.")
    return problems, warnings


def _list(data: Any, labels: Any, several: SeveralLabels | None) -> Listing:
    """Choose the reader by what `data` is."""
    is_path = isinstance(data, (str, bytes, os.PathLike))
    is_frame = hasattr(data, "columns") and hasattr(data, "iloc")
    if labels is not None and (is_path or is_frame):
        raise SettingError("labels is given, but the data brings its own: give labels only with a sequence of paths.")
    if is_path:
        return _list_path(os.fsdecode(data), several)
    if is_frame:
        return read_frame(data, "the DataFrame", os.getcwd(), several)
    if isinstance(data, Iterable):
        return read_sequences(data, labels, several)
    raise SettingError(
        f"data is of type {type(data).__name__}. Expected a folder, a manifest, a DataFrame or a sequence of paths."
    )


def _list_path(given: str, several: SeveralLabels | None) -> Listing:
    path = os.path.abspath(os.path.expanduser(given))
    suffix = os.path.splitext(path)[1].lower()
    expected = "Expected a folder with one folder for each class, or a CSV or Parquet manifest"
    if os.path.isdir(path) and several is not None:
        line = (
            "a folder gives each picture one class. For several labels give a manifest: path and label:NAME columns of"
        )
        raise data_error(shown(path), [f"{line} 0 and 1, or path,label with names such as red;round."])
    if os.path.isdir(path):
        return read_folder(path)
    if not os.path.exists(path):
        raise data_error(shown(path), ["there is no such folder or file. Check the path."])
    if suffix in MANIFEST_SUFFIXES:
        return read_manifest(path, several)
    if suffix in images.SUFFIXES:
        raise data_error(shown(path), [f"this is one picture. {expected}."])
    raise data_error(
        shown(path), [f"this is a file of an unknown kind. {expected} ({', '.join(sorted(MANIFEST_SUFFIXES))})."]
    )


def _dataset(listing: Listing, several: bool) -> Dataset:
    used = {name for label in listing.labels for name in (label if several else (label,))}
    classes = tuple(dict.fromkeys(listing.classes or sorted(used)))
    if several:
        targets = as_matrix(listing.labels, classes)
    else:
        index = {name: i for i, name in enumerate(classes)}
        targets = np.array([index[label] for label in listing.labels], dtype=np.int64)
    return Dataset(
        paths=tuple(listing.paths),
        targets=targets,
        classes=classes,
        splits=_objects(listing.splits),
        groups=_objects(listing.groups),
        skipped=dict(listing.skipped),
        source=listing.source,
        columns=listing.columns,
    )


def _objects(values: list[str | None]) -> np.ndarray | None:
    return np.array(values, dtype=object) if any(value is not None for value in values) else None
