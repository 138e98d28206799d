"""Pictures as suspects: the part of the split that each is in, as a `fit` would have it, and what to call them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from headstart.core.findings import Suspect
from headstart.learn.dataset import Dataset, own_test_split
from headstart.learn.prepare import Prepared

# Of a group of a thousand pictures not all are named beside each.
MAX_OTHERS = 10


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures that may be suspects.

    Attributes:
        dataset: n pictures.
        parts: str `(n,)`, the part of the split that each is in, or nothing.
    """

    dataset: Dataset
    parts: np.ndarray

    @classmethod
    def of(cls, prepared: Prepared) -> Pictures:
        """Return those of prepared data."""
        return cls(prepared.dataset, parts_of(prepared))

    @property
    def folder(self) -> str:
        """Where the data are, with a separator at its end; empty where they have no place."""
        source = self.dataset.source
        folder = source if os.path.isdir(source) else os.path.dirname(source)
        return os.path.join(folder, "") if os.path.isabs(folder) else ""

    def name(self, row: int) -> str:
        """Return a picture's path from the place of the data on: `1.jpg` alone may be in every class."""
        return self.dataset.paths[row].removeprefix(self.folder)

    def suspect(self, row: int, reason: str, score: float, suggestion: str = "", others: Iterable[int] = ()) -> Suspect:
        """Return one of them as a suspect; `others` are the rows that its reason speaks of."""
        named = tuple(self.dataset.paths[other] for other in islice(others, MAX_OTHERS))
        label, part = self.dataset.label(row), str(self.parts[row])
        return Suspect(self.dataset.paths[row], label, part, reason, round(score, 4), suggestion, named)


def parts_of(prepared: Prepared) -> np.ndarray:
    """Return `train`, `validation` or `test` of each picture, str `(n,)`; empty where a fit would cross-validate.

    Of data with train/ and val/ alone, the pictures of val/ are those that test. One that would leak into the data's
    own test or validation pictures is in none of the three, and has the part that the data give it.
    """
    if prepared.cross_validate:
        return np.full(len(prepared.dataset), "", object)
    names = given_parts(prepared.dataset)
    for part, rows in prepared.parts().items():
        names[rows] = part
    return names


def given_parts(dataset: Dataset) -> np.ndarray:
    """Return the part that the data themselves give each picture, str `(n,)`, the test pictures by that name."""
    if dataset.splits is None:
        return np.full(len(dataset), "", object)
    names = dataset.splits.astype(object)
    names[dataset.splits == own_test_split(dataset)] = "test"
    return names
