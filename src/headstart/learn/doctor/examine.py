"""From a folder of labelled pictures to everything that may be the matter with it. No file is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.findings import KINDS, Balance, Checkup, Suspect
from headstart.core.intervals import wilson
from headstart.core.metrics import Figure
from headstart.core.progress import Progress
from headstart.learn.dataset import Dataset, read_dataset
from headstart.learn.doctor.parts import Pictures, given_parts
from headstart.learn.doctor.quality import oddities, qualities
from headstart.learn.doctor.same import leaking_rows, same_pictures
from headstart.learn.features.records import Records
from headstart.learn.prepare import Prepared, prepare
from headstart.learn.several import SeveralLabels
from headstart.learn.units import Units, contradictions, find_units
from headstart.networks import catalog

if TYPE_CHECKING:
    from headstart.networks import Backbone

# An oddity that more than this share of the pictures has is how the data are.
USUAL = 0.5


def examine(
    data: Any,
    *,
    several: SeveralLabels | None = None,
    backbone: str | None = catalog.DEFAULT,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Checkup, Prepared]:
    """Look for everything that may be the matter with labelled pictures; nothing is learned and no file is changed.

    Args:
        data: A folder of class folders, a manifest, or a DataFrame.
        several: How several labels of a picture are written; None where each has one class.
        backbone: Whose features judge labels, outliers, classes and leaks: those of an earlier `fit` are in the cache.
            None leaves these out.
        seed: Of the split and of the folds.
        progress: Is shown the steps, and told what is notable.

    Returns:
        What was found, and the pictures with their split.

    Raises:
        DataError: Nothing can be learned from the data; every problem is in the message.
        WeightsError: The backbone's weights cannot be had.
        SettingError: Memory is too small for the features.
    """
    progress = progress or Progress()
    prepared = prepare(data, several=several, seed=seed, progress=progress)
    units = find_units(prepared.records, prepared.dataset.groups)
    told = contradictions(prepared.dataset, prepared.records, units)  # a finding with pictures, below
    notes = tuple(line for line in (*prepared.dataset.warnings, *prepared.split.warnings) if line not in told)
    odd, usual = _odd(prepared, progress)
    found = {"unreadable": _unreadable(data, several, prepared), **same_pictures(prepared, units), **odd}
    report = prepared.report()
    checkup = Checkup(
        source=prepared.dataset.source,
        pictures=len(prepared.dataset),
        classes=report["classes"],
        report=report,
        findings=_ordered(found),
        balance=_balance(prepared.dataset),
        usual=usual,
        notes=notes,
        options="" if several is None else several.options,
    )
    if backbone is not None and several is not None:
        checkup = _with_label_features(checkup, prepared, units, backbone, seed, progress)
    elif backbone is not None:
        checkup = _with_features(checkup, prepared, units, backbone, seed, progress)
    return checkup, prepared


def _with_features(
    checkup: Checkup, prepared: Prepared, units: Units, backbone: str, seed: int, progress: Progress
) -> Checkup:
    """Add what features tell."""
    from headstart.learn.doctor import judge

    dataset, pictures = prepared.dataset, Pictures.of(prepared)
    features = _features(prepared, backbone, progress)
    targets, c = dataset.targets, len(dataset.classes)
    with progress.step("judge labels"):
        probabilities, doubted = judge.cross_validate(features, targets, c, units.of, seed)
        far = judge.distances(features, units.of, seed)
        around = leaking_rows(prepared, units)
        leakage = None if around is None else judge.measure_leakage(features, targets, c, units.of, *around, seed)
    notes = checkup.notes
    if not judge.better_than_guessing(targets, probabilities, c):
        doubted = np.zeros_like(doubted)
        line = "Labels were not judged: a head on the features is not shown to be better than guessing. Add pictures."
        progress.note(line)
        notes = (*notes, line)
    judged = np.isfinite(probabilities).all(axis=1)
    right = int((probabilities[judged].argmax(axis=1) == targets[judged]).sum())
    found = {
        **checkup.findings,
        "labels": _labels(pictures, probabilities, doubted),
        "outliers": _outliers(pictures, far, *judge.outlying(far, targets), judge.Z_LIMIT),
    }
    return replace(
        checkup,
        findings=_ordered(found),
        pairs=judge.hard_pairs(targets, probabilities, dataset.classes),
        leakage=leakage,
        accuracy=Figure(right / int(judged.sum()), *wilson(right, int(judged.sum()))) if judged.any() else None,
        backbone=backbone,
        notes=notes,
    )


def _with_label_features(
    checkup: Checkup, prepared: Prepared, units: Units, backbone: str, seed: int, progress: Progress
) -> Checkup:
    """Add what features tell where pictures have several labels: neither pairs of classes nor what leaks do."""
    from headstart.learn.doctor import judge

    dataset, pictures = prepared.dataset, Pictures.of(prepared)
    features = _features(prepared, backbone, progress)
    with progress.step("judge labels"):
        probabilities, doubted = judge.cross_validate_labels(features, dataset.targets, units.of, seed)
        far = judge.distances(features, units.of, seed)
    found = {
        **checkup.findings,
        "labels": _several_labels(pictures, probabilities, doubted),
        "outliers": _outliers(pictures, far, *judge.outlying(far, np.zeros(len(far), int)), judge.Z_LIMIT),
    }
    note = "With several labels a picture it is not measured which of them are hard to tell apart, or what leaks do."
    progress.note(note)
    return replace(checkup, findings=_ordered(found), backbone=backbone, notes=(*checkup.notes, note))


def _features(prepared: Prepared, backbone: str, progress: Progress) -> np.ndarray:
    from headstart.learn.features.extract import extract
    from headstart.learn.features.memory import check_memory
    from headstart.networks import load_backbone

    network: Backbone = load_backbone(backbone)
    check_memory(len(prepared.dataset.paths), 1, network.num_features)
    return extract(prepared.pictures(), network, progress=progress).read()[:, 0]


def _several_labels(pictures: Pictures, probabilities: np.ndarray, doubted: np.ndarray) -> tuple[Suspect, ...]:
    dataset, suspects = pictures.dataset, []
    for row in np.flatnonzero(doubted.any(axis=1)).tolist():
        has, wrong = dataset.targets[row], np.flatnonzero(doubted[row])
        better = has ^ doubted[row]
        reasons = [
            f"{probabilities[row, i]:.3f} for {dataset.classes[i]}{'' if has[i] else ', not given'}" for i in wrong
        ]
        sureness = float(np.abs(probabilities[row, wrong] - has[wrong]).max())
        suggestion = ";".join(dataset.classes[i] for i in np.flatnonzero(better)) or "no label"
        suspects.append(pictures.suspect(row, "; ".join(reasons), sureness, suggestion))
    return _worst_first(suspects)


def _labels(pictures: Pictures, probabilities: np.ndarray, doubted: np.ndarray) -> tuple[Suspect, ...]:
    dataset, suspects = pictures.dataset, []
    for row in np.flatnonzero(doubted).tolist():
        own, best = dataset.targets[row], int(probabilities[row].argmax())
        if best == own:
            continue
        given, better = dataset.classes[own], dataset.classes[best]
        p, q = float(probabilities[row, best]), float(probabilities[row, own])
        reason = f"{p:.3f} for {better}, {q:.3f} for {given}"
        suspects.append(pictures.suspect(row, reason, p - q, better))
    return _worst_first(suspects)


def _outliers(
    pictures: Pictures, far: np.ndarray, z: np.ndarray, usual: np.ndarray, limit: float
) -> tuple[Suspect, ...]:
    return _worst_first(
        pictures.suspect(row, f"distance {far[row]:.2f}, where {usual[row]:.2f} is usual", float(z[row]))
        for row in np.flatnonzero(z > limit).tolist()
    )


def _odd(prepared: Prepared, progress: Progress) -> tuple[dict[str, tuple[Suspect, ...]], tuple[str, ...]]:
    """Return what pixels and files tell, by kind, and sentences about what most of the pictures have in common."""
    pictures = Pictures.of(prepared)
    with Records() as known:
        measured = qualities(prepared.records, known, progress)
    found: dict[str, list[Suspect]] = {
        kind: [] for kind in ("blurry", "dark", "bright", "plain", "tiny", "long", "odd")
    }
    for row, (record, quality) in enumerate(zip(prepared.records, measured, strict=True)):
        for kind, (reason, score) in oddities(record, quality).items():
            found[kind].append(pictures.suspect(row, reason, score))
    usual = []
    for kind, suspects in found.items():
        if len(suspects) > USUAL * len(pictures.dataset):
            usual.append(
                f"{KINDS[kind].title}: {len(suspects):,} of {len(pictures.dataset):,} pictures "
                f"({suspects[0].reason}, …)"
            )
            found[kind] = []
    return {kind: _worst_first(suspects) for kind, suspects in found.items()}, tuple(usual)


def _unreadable(data: Any, several: SeveralLabels | None, prepared: Prepared) -> tuple[Suspect, ...]:
    leaking = {path for path, _ in prepared.split.dropped}
    broken = [(path, reason) for path, reason in prepared.set_aside if path not in leaking]
    if not broken:
        return ()
    listed = read_dataset(
        data, several=several, collect=True
    )  # names only: `prepared` does not know the labels of what it set aside
    pictures, rows = Pictures(listed, given_parts(listed)), {path: row for row, path in enumerate(listed.paths)}
    # One that has gone meanwhile is no longer a finding.
    return tuple(pictures.suspect(rows[path], reason, 1.0) for path, reason in broken if path in rows)


def _balance(dataset: Dataset) -> Balance:
    counts = Counter(dict(zip(dataset.classes, dataset.pictures_by_class().tolist(), strict=True)))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    (largest, most), (smallest, fewest) = ordered[0], ordered[-1]
    return Balance(largest, most, smallest, fewest, most / len(dataset))


def _worst_first(suspects: Iterable[Suspect]) -> tuple[Suspect, ...]:
    return tuple(sorted(suspects, key=lambda suspect: (-suspect.score, suspect.path)))


def _ordered(found: dict[str, tuple[Suspect, ...]]) -> dict[str, tuple[Suspect, ...]]:
    return {kind: found[kind] for kind in KINDS if kind in found}
