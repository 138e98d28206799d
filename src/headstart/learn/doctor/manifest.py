"""A manifest of the pictures without those that the user agrees to leave out. It is a new file; no other changes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.errors import SettingError, unknown_name
from headstart.core.findings import CERTAIN, FROM_FEATURES, KINDS, Checkup
from headstart.core.replacing import new_file
from headstart.core.text import below
from headstart.learn.dataset import Dataset, read_dataset
from headstart.learn.doctor.parts import parts_of
from headstart.learn.prepare import Prepared
from headstart.learn.several import PREFIX, SeveralLabels, is_label


@dataclass(frozen=True)
class Written:
    """What a clean manifest holds.

    Attributes:
        kept: Pictures that it lists.
        left_out: Pictures that it does not.
        tested: Of those kept, how many have a finding that was to be left out, and stay because they test.
        split: Whether it fixes the split, which the data left open.
    """

    kept: int
    left_out: int
    tested: int
    split: bool


def check_kinds(kinds: Iterable[str], *, quick: bool = False) -> tuple[str, ...]:
    """Return the kinds of findings that are named; `all` names every one that is looked for.

    Args:
        kinds: Their names.
        quick: Whether no features will be computed.

    Raises:
        SettingError: There is no such kind, or it is not looked for.
    """
    named = tuple(dict.fromkeys(kinds))
    for kind in named:
        if kind != "all" and kind not in KINDS:
            raise unknown_name("kind of finding", kind, [*KINDS, "all"], "`headstart check --help`")
    unsought = FROM_FEATURES if quick else ()
    if "all" in named:
        return tuple(kind for kind in KINDS if kind not in unsought)
    if absent := [kind for kind in named if kind in unsought]:
        raise SettingError(f"{', '.join(absent)}: this was not looked for, as it needs features. Look without --quick.")
    return named


def check_target(file: Path) -> None:
    """Check that a manifest can be written without touching a file that is there.

    Raises:
        SettingError: It exists, is no CSV by its name, or its folder is missing.
    """
    if file.suffix.lower() != ".csv":
        raise SettingError(f"the manifest {file} does not end in .csv: name it so, as that is what is written.")
    if file.exists() or file.is_symlink():
        raise SettingError(f"{file} is there already, and no file is changed: name another one.")
    if not file.parent.is_dir():
        raise SettingError(f"the folder {file.parent} for the manifest does not exist. Make it first.")


def write_clean_manifest(
    data: Any,
    found: tuple[Checkup, Prepared],
    leave_out: Sequence[str],
    file: Path,
    several: SeveralLabels | None = None,
    *,
    of_test: bool = False,
) -> Written:
    """Write the pictures of the data to a CSV file (`path,label[,split][,group]…`), without those of some findings.

    Findings that are judgements (all but `core.findings.CERTAIN`) leave out no picture that tests: hard pictures look
    like faulty ones, and a test without them promises more than new pictures will keep. So that the next fit tests on
    the same pictures, the split is written where such findings leave pictures out of data that have none; and where a
    fit would cross-validate, every picture tests and stays.

    Several labels of a picture become columns `label:NAME` of 0 and 1. Other columns with such a name, which the user
    did not choose as labels, are left out, as a fit on the manifest would learn them.

    Paths below the manifest's folder are written relative to it, others absolute.

    Args:
        data: What was examined.
        found: What `examine` has returned for it.
        leave_out: Kinds of findings whose pictures are left out.
        file: The new file.
        several: How several labels of a picture are written in the data.
        of_test: Leave out pictures that test too, whatever the finding.

    Returns:
        How many pictures were written, left out, and kept because they test.

    Raises:
        SettingError: The file exists or cannot be named so, a kind is unknown or was not looked for, or all pictures
            of a class would be left out.
    """
    check_target(file)
    checkup, prepared = found
    kinds = check_kinds(leave_out, quick=not checkup.backbone)
    dropped, tested = _dropped(checkup, prepared, kinds, of_test)
    dataset = read_dataset(data, several=several, collect=True)
    fixed = dataset.splits is None and not prepared.cross_validate and bool(set(kinds) - set(CERTAIN)) and dropped
    if fixed:
        dataset = _with_split(dataset, prepared)
    kept = [row for row, path in enumerate(dataset.paths) if path not in dropped]
    lost = (dataset.pictures_by_class() > 0) & (dataset.pictures_by_class(np.array(kept, np.int64)) == 0)
    if lost.any():
        names = ", ".join(dataset.classes[target] for target in np.flatnonzero(lost))
        raise SettingError(f"nothing would be left of the class {names}: leave out fewer kinds of findings.")
    if fixed and (untrained := _untrained(dataset, kept)):
        raise SettingError(f"nothing of {untrained} would be left to learn from: leave out fewer kinds of findings.")
    columns = _columns(dataset, kept, os.path.abspath(file.parent))
    try:
        with new_file(file) as temporary:
            with temporary.open("w", newline="", encoding="utf-8") as opened:
                writer = csv.writer(opened)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
            check_target(file)
    except OSError as error:
        raise SettingError(f"{file} cannot be written: {error.strerror}. Name another place.") from error
    return Written(len(kept), len(dataset) - len(kept), len(tested), bool(fixed))


def _dropped(checkup: Checkup, prepared: Prepared, kinds: Sequence[str], of_test: bool) -> tuple[set[str], set[str]]:
    """Return the paths that are left out, and those that would be, did they not test."""
    dropped: set[str] = set()
    stay: set[str] = set()
    for kind in kinds:
        for suspect in checkup.findings.get(kind, ()):
            tests = prepared.cross_validate or suspect.split == "test"
            (stay if tests and kind not in CERTAIN and not of_test else dropped).add(suspect.path)
    return dropped, stay - dropped


def _with_split(dataset: Dataset, prepared: Prepared) -> Dataset:
    """Return a dataset that has no split with the one that was looked at; what could not be read is left to train."""
    parts = dict(zip(prepared.dataset.paths, parts_of(prepared), strict=True))
    return replace(dataset, splits=np.array([parts.get(path, "train") for path in dataset.paths], object))


def _untrained(dataset: Dataset, kept: list[int]) -> str:
    """Return the classes that have pictures, but none left in train."""
    assert dataset.splits is not None
    learned = dataset.pictures_by_class(np.array([row for row in kept if dataset.splits[row] == "train"], np.int64))
    missing = (dataset.pictures_by_class() > 0) & (learned == 0)
    return ", ".join(dataset.classes[target] for target in np.flatnonzero(missing))


def _columns(dataset: Dataset, kept: list[int], base: str) -> dict[str, list[Any]]:
    """Return the manifest's columns by name, paths below `base` relative to it."""
    columns: dict[str, list[Any]] = {
        "path": [below(dataset.paths[row], base) for row in kept],
    }
    if dataset.several_labels:
        columns |= {
            f"{PREFIX}{name}": dataset.targets[kept, i].astype(int).tolist() for i, name in enumerate(dataset.classes)
        }
    else:
        columns["label"] = [dataset.label(row) for row in kept]
    for name, values in (("split", dataset.splits), ("group", dataset.groups)):
        if values is not None:
            columns[name] = [values[row] or "" for row in kept]
    if dataset.columns is not None:
        for name in dataset.columns.columns:
            if dataset.several_labels and is_label(str(name)):
                continue
            values = dataset.columns[name].iloc[kept]
            columns[str(name)] = values.astype(object).where(values.notna(), "").tolist()
    return columns
