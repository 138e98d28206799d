"""Findings about pictures that are the same, or nearly so: duplicates, contradictions, leaks between splits."""

from __future__ import annotations

import numpy as np

from headstart.core.findings import Suspect
from headstart.core.text import shown
from headstart.learn.dataset import own_test_split
from headstart.learn.doctor.parts import Pictures
from headstart.learn.duplicates import components
from headstart.learn.prepare import Prepared
from headstart.learn.units import Units

_RANK = {"train": 0, "validation": 1, "test": 2}


def same_pictures(prepared: Prepared, units: Units) -> dict[str, tuple[Suspect, ...]]:
    """Return the findings `leaks`, `contradictions` and `duplicates`; a picture is a duplicate if it is nothing worse.

    Args:
        prepared: The pictures and their split.
        units: What is the same, nearly the same, or of one group.
    """
    dataset, records, pictures = prepared.dataset, prepared.records, Pictures.of(prepared)
    roots = components(len(records), _all(units))
    order = np.argsort(roots, kind="stable")
    groups = [one.tolist() for one in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1) if len(one) > 1]
    row_of = {path: row for row, path in enumerate(dataset.paths)}
    sides, pairs = pictures.parts, _all(units)
    leaks = []
    for path, reason in prepared.split.dropped:
        row = row_of[path]
        reason = reason.replace(shown(pictures.folder), "") if pictures.folder else reason
        others = np.flatnonzero((units.of == units.of[row]) & (sides != sides[row]))
        near_first = _near_first(pairs, row, others)
        leaks.append(pictures.suspect(row, reason, 1.0 + len(others) / 1000, others=near_first))
    worse = {suspect.path for suspect in leaks}
    contradictions, duplicates = [], []
    for members in groups:
        labels = sorted({dataset.label(i) for i in members})
        if len(labels) > 1:
            said = " and ".join(shown(label or "none") for label in labels)
            reason = f"{_how(prepared, members)} pictures are labelled {said}"
            for i in members:
                beside = (j for j in members if j != i)
                contradictions.append(pictures.suspect(i, reason, float(len(members)), others=beside))
            worse |= {dataset.paths[i] for i in members}
            continue
        keep = max(members, key=lambda i: (_RANK.get(str(sides[i]), 0), _pixels(prepared, i), -i))
        for i in members:
            if i == keep or dataset.paths[i] in worse:
                continue
            same = records[i].digest == records[keep].digest
            reason = f"{'identical to' if same else 'nearly the same as'} {shown(pictures.name(keep))}, which stays"
            duplicates.append(pictures.suspect(i, reason, 2.0 if same else 1.0, others=[keep]))
    return {"leaks": tuple(leaks), "contradictions": tuple(contradictions), "duplicates": _worst_first(duplicates)}


def leaking_rows(prepared: Prepared, units: Units) -> tuple[np.ndarray, np.ndarray] | None:
    """Return which pictures test, by the data's own split, and which others share a unit with one: bool `(n,)` each."""
    own = own_test_split(prepared.dataset)
    if own is None or prepared.dataset.splits is None:
        return None
    tested = np.asarray(prepared.dataset.splits == own)
    return tested, ~tested & np.isin(units.of, units.of[tested])


def _all(units: Units) -> np.ndarray:
    return np.concatenate([units.identical, units.near])


def _how(prepared: Prepared, members: list[int]) -> str:
    same = len({prepared.records[i].digest for i in members}) == 1
    return f"these {len(members)} {'identical' if same else 'nearly identical'}"


def _near_first(pairs: np.ndarray, row: int, others: np.ndarray) -> list[int]:
    """Return others with those that are the same as, or nearly the same as, `row` in front."""
    close = np.isin(others, pairs[(pairs == row).any(axis=1)])
    found: list[int] = np.concatenate([others[close], others[~close]]).tolist()
    return found


def _pixels(prepared: Prepared, row: int) -> int:
    return prepared.records[row].width * prepared.records[row].height


def _worst_first(suspects: list[Suspect]) -> tuple[Suspect, ...]:
    return tuple(sorted(suspects, key=lambda suspect: -suspect.score))
