"""Tables of labelled pictures -> Listing: CSV and Parquet files, pandas DataFrames, two lists.

The columns are `path` and `label` and, if there, `split` and `group`; paths are relative to the manifest. Where
pictures have several labels, `learn.several` says how they are written.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from headstart.core.text import below, cell_name, count
from headstart.learn.listing import SPLITS, Listing, data_error, is_utf8, shown, some
from headstart.learn.several import SeveralLabels, class_name, is_label, matrix_of, read_flags

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
_COLUMNS = ("path", "label", "split", "group")
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "None"]


def read_manifest(path: str, several: SeveralLabels | None = None) -> Listing:
    """List the pictures of a CSV, TSV or Parquet file.

    Raises:
        DataError: The file cannot be parsed.
    """
    source = shown(path)
    try:
        frame = _read_text(path) if path.lower().endswith((".csv", ".tsv")) else _read_parquet(path)
    except UnicodeDecodeError as error:
        raise data_error(source, [f"it is not UTF-8 text (byte {error.start}): save it as UTF-8."]) from None
    except Exception as error:  # pandas and pyarrow raise many types on files that are not what they say
        reason = " ".join(str(error).split())[:200]
        raise data_error(source, [f"it cannot be read as a table ({reason}). Save it again as CSV."]) from None
    return read_frame(frame, source, os.path.dirname(path), several)


def read_frame(frame: pd.DataFrame, source: str, base: str, several: SeveralLabels | None = None) -> Listing:
    """List the pictures of a DataFrame.

    Args:
        frame: Has the columns `path` and `label` and, if there, `split` and `group`; others are kept.
        source: What the DataFrame is, for messages.
        base: Absolute folder that relative paths start from.
        several: How several labels of a picture are written; None where each has one.
    """
    listing = Listing(source)
    names = [str(name).strip() for name in frame.columns]
    try:
        flags = [] if several is None else several.places(names)
    except ValueError as error:
        listing.problems.append(f"{error}.")
        return listing
    place = {key: [i for i, name in enumerate(names) if name.lower() == key] for key in _COLUMNS}
    missing = [key for key in ("path", "label") if not place[key] and not (flags and key == "label")]
    if several is None and "label" in missing and any(map(is_label, names)):
        listing.problems.append(
            "its labels are columns of 0 and 1, several a picture: choose output multilabel (--output multilabel); a "
            "command without it needs one column label."
        )
        return listing
    if missing:
        listing.problems.append(
            f"no column {' and no column '.join(repr(key) for key in missing)} among {some(names, 8) or 'none'}. "
            "Expected path,label[,split][,group]: rename the columns."
        )
    twice = [key for key, found in place.items() if len(found) > 1]
    if twice:
        listing.problems.append(f"more than one column is called {' and '.join(twice)}. Rename all but one.")
    if flags and place["label"] and place["label"][0] not in flags:
        listing.problems.append("it has label columns of 0 and 1 and a column label too: rename or remove one of them.")
    if listing.problems:
        return listing
    cells = {key: frame.iloc[:, found[0]].tolist() for key, found in place.items() if found}
    if flags:
        cells["label"] = read_flags(frame.iloc[:, flags])
        listing.classes = tuple(class_name(names[i]) for i in flags)
    elif several is not None:
        cells["label"] = [several.split(cell) for cell in cells["label"]]
    kept = _add_rows(listing, base, **cells, several=several is not None)
    others = [i for i, name in enumerate(names) if name.lower() not in _COLUMNS and i not in flags]
    if others:
        listing.columns = frame.iloc[kept, others].reset_index(drop=True)
    return listing


def read_sequences(paths: Iterable[Any], labels: Any, several: SeveralLabels | None = None) -> Listing:
    """List pictures given as two sequences, of paths and of labels; with several labels a picture see `matrix_of`."""
    listing = Listing("the list of paths")
    paths = list(paths)
    if labels is None:
        listing.problems.append("labels is missing: give one label for each path.")
        return listing
    labels, listing.classes = (list(labels), None) if several is None else matrix_of(labels)
    if several is not None and listing.classes is None:
        labels = [several.split(cell) for cell in labels]
    if len(paths) != len(labels):
        listing.problems.append(
            f"{count(len(paths), 'path')} and {count(len(labels), 'label')}: give one label for each path."
        )
        return listing
    strange = [i for i, path in enumerate(paths) if not isinstance(path, (str, bytes, os.PathLike))]
    if strange:
        kind = type(paths[strange[0]]).__name__
        listing.problems.append(f"element {strange[0]} of the paths is of type {kind}. Expected paths of files.")
        return listing
    _add_rows(listing, os.getcwd(), paths, labels, several=several is not None)
    return listing


def _read_text(path: str) -> pd.DataFrame:
    import pandas as pd

    with open(path, encoding="utf-8-sig") as file:
        head = file.readline()
    # What spreadsheets write where the comma is the decimal point.
    separator = "\t" if "\t" in head and "," not in head else ";" if ";" in head and "," not in head else ","
    options: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "skipinitialspace": True}
    names = list(pd.read_csv(path, nrows=0, **options).columns)
    ours = [name for name in names if name.strip().lower() in _COLUMNS]
    with warnings.catch_warnings():
        # pandas would warn of a row that is longer than the header, and cut it.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # In our columns "NA" and "None" are names like any other, and "007" keeps its zeros.
        return pd.read_csv(
            path,
            dtype=dict.fromkeys(ours, str),
            keep_default_na=False,
            na_values={name: [""] if name in ours else _MISSING for name in names},
            index_col=False,
            **options,
        )


def _read_parquet(path: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)


def _add_rows(
    listing: Listing,
    base: str,
    path: Sequence[Any],
    label: Sequence[Any],
    split: Sequence[Any] | None = None,
    group: Sequence[Any] | None = None,
    several: bool = False,
) -> list[int]:
    """Check the cells, add the good rows and return their numbers; faults are told by kind with row numbers.

    Rows are counted from 1, the header left out. With several labels a picture their cells are parted already: a tuple,
    or None where they cannot be read. The classes get the order of numbers where all labels of the good rows are some.
    """
    paths = [_path(cell, base) for cell in path]
    labels = [_names(cell) if several else cell_name(cell) for cell in label]
    splits = [cell_name(cell) for cell in split] if split is not None else [None] * len(paths)
    groups = [cell_name(cell) for cell in group] if group is not None else [None] * len(paths)
    has_splits = any(cell is not None for cell in splits)
    faults: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    kept = []
    for i, (file, name, part) in enumerate(zip(paths, labels, splits, strict=True)):
        fault = _fault(file, part, has_splits=has_splits)
        if fault is None and name is None:
            fault = "a label is neither 0 nor 1, or no name" if several else "the label is missing or no single name"
        if fault is None and file is not None and name is not None:
            first = seen.setdefault(file, i)
            if first == i:
                kept.append(i)
                listing.add(file, name, SPLITS[part.lower()] if part else None, groups[i])
                continue
            same = (labels[first], splits[first]) == (name, part)
            fault = "twice" if same else "listed again with another label or split"
        faults.setdefault(str(fault), []).append(f"row {i + 1}" if file is None else f"row {i + 1} {below(file, base)}")
    _tell(listing, faults)
    if listing.classes is None:
        listing.classes = _by_value(part for i in kept for part in (label[i] if several else (label[i],)))
    return kept


def _by_value(labels: Iterable[Any]) -> tuple[str, ...] | None:
    """Return the names of labels that are all numbers in the order of these, as scikit-learn sorts them; else None."""
    named: dict[str, Any] = {}
    for one in labels:
        if not isinstance(one, Real):
            return None
        named[str(cell_name(one))] = one
    return tuple(sorted(named, key=lambda name: (named[name], name)))


def _fault(path: str | None, split: str | None, *, has_splits: bool) -> str | None:
    if path is None:
        return "the path is missing"
    if not is_utf8(path):
        return "odd"
    if has_splits and split is None:
        return "the split is missing, while other rows have one"
    if split is not None and split.lower() not in SPLITS:
        return f"the split is {shown(split)!r}, expected train, validation or test"
    if not os.path.exists(path):
        return "there is no such file"
    return None


def _tell(listing: Listing, faults: dict[str, list[str]]) -> None:
    for fault, rows in faults.items():
        number = count(len(rows), "row")
        if fault == "twice":
            listing.warnings.append(f"{number} listed twice, used once: {some(rows)}.")
        elif fault == "odd":
            listing.skipped["names not UTF-8"] += len(rows)
            listing.warnings.append(f"{number} with a name not in UTF-8, skipped; rename to use: {some(rows)}.")
        else:
            listing.problems.append(f"{fault}: {some(rows)} ({number}).")
    if not listing.paths and not listing.problems:
        listing.problems.append("it lists no pictures. Give one row for each picture.")


def _path(cell: Any, base: str) -> str | None:
    if isinstance(cell, (bytes, os.PathLike)):
        cell = os.fsdecode(cell)
    if not isinstance(cell, str) or not cell.strip():
        return None
    return os.path.normpath(os.path.join(base, os.path.expanduser(cell) if cell[0] == "~" else cell))


def _names(parts: tuple[Any, ...] | None) -> tuple[str, ...] | None:
    """Return the names of a picture's labels, sorted, each once; None where there is none or one of them has none."""
    names = [None] if parts is None else [cell_name(part) for part in parts]
    return None if None in names else tuple(sorted({str(name) for name in names}))
