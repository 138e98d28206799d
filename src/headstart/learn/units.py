"""Pictures that must stay on one side of a split: the same, nearly the same, or of one group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.core.text import count
from headstart.learn.audit import Record
from headstart.learn.dataset import Dataset
from headstart.learn.duplicates import components, identical_pairs, near_pairs
from headstart.learn.listing import shown, some


@dataclass(frozen=True, eq=False)
class Units:
    """What must not be divided.

    Attributes:
        of: int64 `(n,)`, the unit's number of each picture, from 0.
        digests: The smallest digest in each unit: its name, whatever the files are called.
        identical: int64 `(k, 2)`, pairs of pictures with the same bytes.
        near: int64 `(k, 2)`, pairs of pictures that are nearly the same.
        grouped: int64 `(k, 2)`, pairs of pictures of the same group.
    """

    of: np.ndarray
    digests: tuple[str, ...]
    identical: np.ndarray
    near: np.ndarray
    grouped: np.ndarray

    def keys(self, seed: int) -> list[bytes]:
        """Return a key for each unit: sorted by them, the units stand in a random order chosen by the seed."""
        return [hashlib.blake2b(f"{seed} {digest}".encode(), digest_size=16).digest() for digest in self.digests]


def find_units(records: Sequence[Record], groups: np.ndarray | None) -> Units:
    """Join pictures that are the same, nearly the same, or of one group, and whatever these connect.

    Args:
        records: `n` usable records.
        groups: Object array `(n,)` of str or None, or None.
    """
    identical, near = identical_pairs(records), near_pairs(records)
    first: dict[str, int] = {}
    named = [] if groups is None else [(i, group) for i, group in enumerate(groups.tolist()) if group is not None]
    links = [(first.setdefault(group, i), i) for i, group in named]
    grouped = np.array([link for link in links if link[0] != link[1]], np.int64).reshape(-1, 2)
    roots = components(len(records), np.concatenate([identical, near, grouped]))
    _, of = np.unique(roots, return_inverse=True)
    digests: dict[int, str] = {}
    for unit, record in zip(of.tolist(), records, strict=True):
        digests[unit] = min(record.digest, digests.get(unit, record.digest))
    return Units(of, tuple(digests[unit] for unit in range(len(digests))), identical, near, grouped)


def kept_together(records: Sequence[Record], units: Units) -> dict[str, int]:
    """Return how many pictures have another one that is the same, nearly the same, or of the same group."""
    near = {records[i].digest for i in np.unique(units.near)}
    return {
        "identical": len(np.unique(units.identical)),
        "near-identical": sum(record.digest in near for record in records),
        "same group": len(np.unique(units.grouped)),
    }


def contradictions(dataset: Dataset, records: Sequence[Record], units: Units) -> list[str]:
    """Return warnings of pictures that are the same, or nearly, with different labels."""
    lines = []
    # The first of identical pictures stands for all in `near`; so these pairs are told apart by bytes.
    for kind, pairs in (("identical", units.identical), ("near-identical", units.near)):
        differing = [(a, b) for a, b in pairs.tolist() if dataset.label(a) != dataset.label(b)]
        if differing:
            examples = some(f"{_labelled(dataset, a)} = {_labelled(dataset, b)}" for a, b in differing)
            number = count(len(differing), f"pair of {kind} pictures", f"pairs of {kind} pictures")
            lines.append(f"{number} with different labels: {examples}. Correct the labels or remove one.")
    return lines


def leaks(dataset: Dataset, records: Sequence[Record], units: Units, sides: np.ndarray) -> dict[int, str]:
    """Return the pictures that would leak into a higher side, with the reason.

    Args:
        dataset: `n` pictures with their own `splits`.
        records: Their records.
        units: Their units.
        sides: int64 `(n,)`: the higher the number, the less a picture may be touched.
    """
    highest = np.full(len(units.digests), -1, np.int64)
    np.maximum.at(highest, units.of, sides)
    leaking = np.flatnonzero(sides < highest[units.of]).tolist()
    kept: dict[int, list[int]] = {}
    for i in np.flatnonzero(sides == highest[units.of]).tolist():
        kept.setdefault(int(units.of[i]), []).append(i)
    near = {frozenset((records[a].digest, records[b].digest)) for a, b in units.near.tolist()}
    return {i: _reason(dataset, records, near, i, kept[int(units.of[i])]) for i in leaking}


def _reason(
    dataset: Dataset, records: Sequence[Record], near: set[frozenset[str]], leaking: int, kept: list[int]
) -> str:
    def of_group(i: int) -> bool:
        groups = dataset.groups
        return groups is not None and groups[i] is not None and groups[i] == groups[leaking]

    digest = records[leaking].digest
    kinds = {
        "identical to": [i for i in kept if records[i].digest == digest],
        "near-identical to": [i for i in kept if frozenset((records[i].digest, digest)) in near],
        "of the same group as": [i for i in kept if of_group(i)],
        "connected, by near-identical pictures or groups, with": kept,
    }
    kind, found = next((kind, found) for kind, found in kinds.items() if found)
    split = "" if dataset.splits is None else f", which is in {dataset.splits[found[0]]}"
    return f"{kind} {shown(dataset.paths[found[0]])}{split}"


def _labelled(dataset: Dataset, i: int) -> str:
    return f"{dataset.paths[i]} ({dataset.label(i)})"
