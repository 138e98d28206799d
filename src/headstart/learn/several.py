"""How several labels of one picture are written: as columns of 0 and 1, as one cell of names, or as lists.

What users of other tools have: `label:NAME` columns, columns named by hand (several `y_col` in Keras), names in one
cell with a separator between them (`label_delim` in fastai), lists of names, and matrices (scikit-learn).
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import SettingError
from headstart.core.text import cell_name

if TYPE_CHECKING:
    import pandas as pd

PREFIX, SEPARATOR = "label:", ";"
_FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True)
class SeveralLabels:
    """How several labels of a picture are written.

    Attributes:
        columns: Columns of 0 and 1, each a label; empty takes those called `label:NAME` or, without any, the names in
            the column `label`.
        separator: What stands between the names in a cell.
    """

    columns: tuple[str, ...] = ()
    separator: str = SEPARATOR

    def __post_init__(self) -> None:
        if not isinstance(self.separator, str) or not self.separator:
            raise SettingError(f"label_separator is {self.separator!r}: give the text between two labels, such as ';'.")
        if len(set(self.columns)) != len(self.columns):
            raise SettingError(f"label_columns names a column twice: {', '.join(self.columns)}. Name each once.")

    @property
    def options(self) -> str:
        """What `headstart fit` and `headstart check` are told of it."""
        told = ["--output", "multilabel"]
        if self.columns:
            told += ["--labels", ",".join(self.columns)]
        if self.separator != SEPARATOR:
            told += ["--label-separator", self.separator]
        return shlex.join(told)

    def places(self, names: Sequence[str]) -> list[int]:
        """Return which of a table's columns are labels by themselves; none where the column `label` holds the names.

        Raises:
            ValueError: A column that was named is not there; its text says what to do.
        """
        if not self.columns:
            return [place for place, name in enumerate(names) if is_label(name)]
        found = []
        for wanted in self.columns:
            near = [place for place, name in enumerate(names) if name in (wanted, PREFIX + wanted)]
            if len(near) != 1:
                how = "no column" if not near else "more than one column"
                raise ValueError(f"{how} is called {wanted!r}, which label_columns names: correct one of the two")
            found += near
        return found

    def split(self, cell: Any) -> tuple[Any, ...]:
        """Return the names in a cell as they stand there: one that is empty or missing holds none."""
        if cell is None or (isinstance(cell, float) and cell != cell) or repr(cell) in ("<NA>", "NaT"):
            return ()
        if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
            return tuple(cell)
        if not isinstance(cell, str):
            return (cell,)
        return tuple(part for part in cell.split(self.separator) if part.strip())


def choose_several_labels(output: str, columns: Sequence[str] | None, separator: str) -> SeveralLabels | None:
    """Return how several labels a picture are written; None where each has one class.

    Args:
        output: What the model gives; `multilabel` gives several labels.
        columns: The label columns, or None.
        separator: What stands between the names in a cell.

    Raises:
        SettingError: Label columns or a separator are given, and the output is another.
    """
    if output == "multilabel":
        return SeveralLabels(tuple(columns or ()), separator)
    for name, given in (("label_columns", columns is not None), ("label_separator", separator != SEPARATOR)):
        if given:
            raise SettingError(f"{name} is given, and output is {output!r}: choose output 'multilabel'.")
    return None


def several_labels_of(description: Mapping[str, Any]) -> SeveralLabels | None:
    """Return how the labels were written that a model learned from, or None where it gives each picture one class.

    Args:
        description: What its `model.json` says.
    """
    if description.get("output") != "multilabel":
        return None
    parameters = description.get("parameters") or {}
    return SeveralLabels(tuple(parameters.get("label_columns") or ()), parameters.get("label_separator") or SEPARATOR)


def seems_several(classes: Sequence[str], separator: str = SEPARATOR) -> str | None:
    """Return a class that looks like several labels in one cell, all of which stand in other cells too; or None."""
    parts = {name: {part.strip() for part in name.split(separator)} for name in classes}
    known = Counter(part for each in parts.values() for part in each)
    return next((name for name, each in parts.items() if len(each) > 1 and all(known[one] > 1 for one in each)), None)


def class_name(column: object) -> str:
    """Return the label that a column stands for: `label:red` is `red`."""
    name = cell_name(str(column)) or ""
    return (cell_name(name[len(PREFIX) :]) or "") if is_label(name) else name


def is_label(column: str) -> bool:
    """Whether a column is a label by its name, `label:NAME`."""
    return column.strip().lower().startswith(PREFIX)


def read_flags(table: pd.DataFrame) -> list[tuple[str, ...] | None]:
    """Return the labels of each row of a table of 0 and 1 (or true and false); None where a cell is neither."""
    names = [class_name(name) for name in table.columns]
    columns = [[_flag(cell) for cell in table.iloc[:, place].tolist()] for place in range(len(names))]
    return [
        None if None in row else tuple(name for name, is_on in zip(names, row, strict=True) if is_on)
        for row in zip(*columns, strict=True)
    ]


def matrix_of(labels: Any) -> tuple[list[Any], tuple[str, ...] | None]:
    """Return labels given in Python as a sequence a picture, and the classes in their order where a table names them.

    Args:
        labels: Lists of names, names in one text, or a table (DataFrame, or array `(n, c)` whose labels are then called
            `0`, `1`, …) of 0 and 1.
    """
    if isinstance(labels, np.ndarray) and labels.ndim == 2:
        import pandas as pd

        labels = pd.DataFrame(labels, columns=[str(place) for place in range(labels.shape[1])])
    if hasattr(labels, "columns"):
        return list(read_flags(labels)), tuple(map(class_name, labels.columns))
    return list(labels), None


def as_matrix(labels: Any, classes: Sequence[str], several: SeveralLabels | None = None) -> np.ndarray:
    """Return which labels each picture has, bool `(n, c)`.

    Args:
        labels: n sequences of names, or names in one text; or a table of 0 and 1: the columns of a DataFrame are known
            by their names, those of an array are the classes in their order.
        classes: The c names.
        several: What stands between the names in a text; None is `;`.

    Raises:
        SettingError: A name is no class, or a table has other columns, or other cells.
    """
    if hasattr(labels, "columns"):
        labels = labels.iloc[:, _places(labels, classes)].to_numpy()
    if getattr(labels, "ndim", 0) == 2:
        return _matrix_of_flags(np.asarray(labels), len(classes))
    index = {name: place for place, name in enumerate(classes)}
    parts = (several or SeveralLabels()).split
    rows = [[cell_name(part) for part in parts(row)] for row in labels]
    unknown = sorted({str(name) for row in rows for name in row if name not in index})
    if unknown:
        raise SettingError(f"unknown label {unknown[0]!r}: the classes are {', '.join(map(repr, classes[:5]))}.")
    made = np.zeros((len(rows), len(classes)), bool)
    for picture, row in enumerate(rows):
        made[picture, [index[str(name)] for name in row]] = True
    return made


def _places(table: pd.DataFrame, classes: Sequence[str]) -> list[int]:
    """Return where in a table of labels the column of each class is."""
    names = [class_name(name) for name in table.columns]
    for name in (*names, *classes):
        found = names.count(name)
        if name not in classes or found != 1:
            what = f"{found or 'no'} columns {name!r}" if name in classes else f"a column {name!r}, which is no class"
            raise SettingError(f"the labels have {what}: give one column for each of {', '.join(map(repr, classes))}.")
    return [names.index(name) for name in classes]


def _matrix_of_flags(table: np.ndarray, number: int) -> np.ndarray:
    if table.shape[1] != number:
        raise SettingError(f"the labels have {table.shape[1]} columns, and the model has {number} classes.")
    flags = []
    for row, cells in enumerate(table.tolist()):
        flags.append([_flag(cell) for cell in cells])
        if None in flags[-1]:
            wrong = cells[flags[-1].index(None)]
            raise SettingError(f"a label in row {row + 1} is {wrong!r}: give 1 where the picture has it, else 0.")
    return np.array(flags, bool).reshape(table.shape)


def _flag(cell: Any) -> bool | None:
    return _FLAGS.get(str(cell).strip().lower())
