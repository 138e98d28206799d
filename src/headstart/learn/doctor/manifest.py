"""A manifest of the pictures without those that the user agrees to leave out. It is a new file; no other changes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.errors import SettingError, unknown_name
from headstart.core.findings import KINDS, Checkup
from headstart.core.replacing import new_file
from headstart.learn.dataset import Dataset, read_dataset
from headstart.learn.several import PREFIX, SeveralLabels, is_label


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds of findings that are named; `all` names every one.

    Raises:
        SettingError: There is no such kind.
    """
    named = tuple(dict.fromkeys(kinds))
    for kind in named:
        if kind != "all" and kind not in KINDS:
            raise unknown_name("kind of finding", kind, [*KINDS, "all"], "`headstart check --help`")
    return tuple(KINDS) if "all" in named else named


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
    data: Any, checkup: Checkup, leave_out: Sequence[str], file: Path, several: SeveralLabels | None = None
) -> tuple[int, int]:
    """Write the pictures of the data to a CSV file (`path,label[,split][,group]…`), without those of some findings.

    Several labels of a picture become columns `label:NAME` of 0 and 1. Other columns with such a name, which the user
    did not choose as labels, are left out, as a fit on the manifest would learn them.

    Paths below the manifest's folder are written relative to it, others absolute.

    Args:
        data: What was examined.
        checkup: What was found in it.
        leave_out: Kinds of findings whose pictures are left out.
        file: The new file.
        several: How several labels of a picture are written in the data.

    Returns:
        How many pictures were written, and how many left out.

    Raises:
        SettingError: The file exists or cannot be named so, a kind is unknown or was not looked for, or all pictures
            of a class would be left out.
    """
    check_target(file)
    kinds = check_kinds(leave_out)
    unsought = [kind for kind in kinds if kind not in checkup.findings and "all" not in leave_out]
    if unsought:
        raise SettingError(f"{', '.join(unsought)} was not looked for: leave out --quick, or the kind.")
    dropped = {suspect.path for kind in kinds for suspect in checkup.findings.get(kind, ())}
    dataset = read_dataset(data, several=several, collect=True)
    kept = [row for row, path in enumerate(dataset.paths) if path not in dropped]
    lost = (dataset.pictures_by_class() > 0) & (dataset.pictures_by_class(np.array(kept, np.int64)) == 0)
    if lost.any():
        names = ", ".join(dataset.classes[target] for target in np.flatnonzero(lost))
        raise SettingError(f"nothing would be left of the class {names}: leave out fewer kinds of findings.")
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
    return len(kept), len(dataset) - len(kept)


def _columns(dataset: Dataset, kept: list[int], base: str) -> dict[str, list[Any]]:
    """Return the manifest's columns by name, paths below `base` relative to it."""
    columns: dict[str, list[Any]] = {
        "path": [_relative(dataset.paths[row], base) for row in kept],
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


def _relative(path: str, base: str) -> str:
    return os.path.relpath(path, base) if path.startswith(base.rstrip(os.sep) + os.sep) else path
