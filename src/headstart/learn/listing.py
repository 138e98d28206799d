"""What a source of labelled pictures lists, and everything that is wrong with it, before it becomes a Dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headstart.core.errors import DataError
from headstart.core.text import count
from headstart.core.text import shown as shown

# Names of folders and of values of a `split` column, in lower case. "Training" and "Testing" are what many
# published datasets call them; taken for classes, they would be learned without a complaint.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass
class Listing:
    """Pictures with their labels as a source lists them; filled by the readers of folders and manifests.

    Attributes:
        source: What was read, for messages.
        paths: Absolute path of each picture.
        labels: Class name of each picture; where pictures have several labels, a tuple of names each.
        splits: 'train', 'validation', 'test' or None of each picture.
        groups: Name of the group of each picture, or None.
        columns: The manifest's other columns as a pandas DataFrame with one row a picture, or None.
        classes: The class names in the order that the source gives them, also those that no picture has; None where it
            gives none, and that of their text is meant.
        empty: Class folders without a picture.
        skipped: How many files or folders were left out, by kind.
        problems: Lines, each a reason to refuse the source.
        warnings: Lines to tell, none of them a reason to refuse it.
    """

    source: str
    paths: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    columns: Any = None
    classes: tuple[str, ...] | None = None
    empty: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, path: str, label: str | tuple[str, ...], split: str | None = None, group: str | None = None) -> None:
        """Append one picture."""
        self.paths.append(path)
        self.labels.append(label)
        self.splits.append(split)
        self.groups.append(group)


def data_error(source: str, problems: Sequence[str], warnings: Sequence[str] = ()) -> DataError:
    """Return one error that tells every problem, a line each; warnings follow because they often explain."""
    if len(problems) == 1 and not warnings:
        return DataError(f"{source}: {problems[0]}")
    lines = [f"- {line}" for line in problems] + [f"- note: {line}" for line in warnings]
    return DataError("\n".join([f"{source}: {count(len(problems), 'problem')}", *lines]))


def some(names: Iterable[object], limit: int = 3) -> str:
    """Return the first few names as text: "a, b, c and 309 more"."""
    texts = [shown(name) for name in names]
    if len(texts) > limit + 1:
        return f"{', '.join(texts[:limit])} and {len(texts) - limit:,} more"
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def is_utf8(name: str) -> bool:
    """Whether a file name, as Python read it from the system, is valid UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
