"""Seeded, stratified train/validation/test that do not lie.

Pictures that are the same, nearly the same, or members of one group form a unit (`learn.units`), and a unit is
never divided. Where it goes depends on the seed and on the bytes of its pictures, not on names or their order.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.core.errors import SettingError
from headstart.learn.audit import Record
from headstart.learn.dataset import Dataset, own_test_split
from headstart.learn.listing import data_error, some
from headstart.learn.shares import TEST_SIZE, VALIDATION_SIZE
from headstart.learn.stratify import share_out
from headstart.learn.units import contradictions, find_units, kept_together, leaks

# Of a class with fewer pictures a test set says next to nothing by itself.
RARE = 20
# Data with a rare class are cross-validated where they would have fewer test pictures in all, or on average fewer
# pictures a class: test and validation would take half of them; docs/decisions/0015-cross-validation.md.
MIN_TESTED, MIN_A_CLASS = 40, 5
_TRAIN, _VALIDATION, _TEST, _NOWHERE = range(4)


@dataclass(frozen=True, eq=False)
class Split:
    """Which pictures of a dataset train, which choose, and which test.

    Attributes:
        train: int64 indices into the dataset, ascending.
        validation: Likewise; never overlaps the others.
        test: Likewise; to be looked at once, at the end.
        kept_together: How many pictures share their bytes, nearly their look, or their group with another one:
            'identical', 'near-identical', 'same group'.
        dropped: `(path, reason)` of pictures in none of the three, because they would leak into the source's
            own test or validation split.
        own: Whether the source brought its own test split.
        units: int64 `(n,)`, equal for pictures that must never be divided, for further splits of what learns.
        warnings: Lines that a person should see.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    kept_together: dict[str, int]
    dropped: tuple[tuple[str, str], ...]
    own: bool
    units: np.ndarray
    warnings: tuple[str, ...] = ()


def split(
    dataset: Dataset,
    records: Sequence[Record],
    *,
    validation: float = VALIDATION_SIZE,
    test: float = TEST_SIZE,
    seed: int = 0,
) -> Split:
    """Split a dataset, or complete the split that it brings.

    With its own train and test, or train and validation, the second is the test set as it is and validation is
    cut from train. With all three nothing is cut. What would leak from an own test or validation split into
    learning is dropped from the side that learns.

    Args:
        dataset: `n` usable pictures.
        records: Their `n` records, in the same order.
        validation: Share of each class's pictures that validate, of those that are cut.
        test: Share that tests; not used when the source brings its own test split.
        seed: Another seed gives another split.

    Raises:
        SettingError: A share is negative or they leave nothing for training, or there is not one usable record
            for each picture.
        DataError: A class has no picture left to learn from.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise SettingError(
            f"validation is {validation} and test is {test}: give shares from 0 that leave something for training."
        )
    _check_records(dataset, records)
    units = find_units(records, dataset.groups)
    keys = units.keys(seed)
    everything, targets = np.arange(len(dataset)), _by_name(dataset)
    own = own_test_split(dataset)
    dropped: dict[int, str] = {}
    if own is None or dataset.splits is None:
        sides = _cut(everything, targets, units.of, keys, (1 - validation - test, validation, test))
    else:
        roles = {"train": _TRAIN, "validation": _VALIDATION if own == "test" else _TEST, "test": _TEST}
        sides = np.array([roles[name] for name in dataset.splits], np.int64)
        cut = not (sides == _VALIDATION).any()
        dropped = leaks(dataset, records, units, sides)
        sides[list(dropped)] = _NOWHERE
        if cut:
            rows = everything[sides == _TRAIN]
            sides[rows] = _cut(rows, targets, units.of, keys, (1 - validation, validation, 0.0))
    _check_trained(dataset, sides)
    notes = [*contradictions(dataset, records, units), *_untested(dataset, sides, (validation, test))]
    return Split(
        train=np.flatnonzero(sides == _TRAIN),
        validation=np.flatnonzero(sides == _VALIDATION),
        test=np.flatnonzero(sides == _TEST),
        kept_together=kept_together(records, units),
        dropped=tuple((dataset.paths[i], reason) for i, reason in sorted(dropped.items())),
        own=own is not None,
        units=units.of,
        warnings=tuple(notes),
    )


def needs_cross_validation(dataset: Dataset, split: Split) -> bool:
    """Whether a test set would say too little, or leave too little to learn from.

    So it is where a class has no picture that could test. And where a class has under 20 pictures while the data are
    small as a whole: under 40 test pictures, or under 5 pictures a class on average. In larger data a rare class
    changes nothing; see `rare_classes`. Never with an own test split: what to test on was the source's choice, and it
    stays untouched.
    """
    if split.own:
        return False
    totals = _used(dataset, split)
    small = len(split.test) < MIN_TESTED or totals.mean() < MIN_A_CLASS
    return bool((dataset.pictures_by_class(split.test) == 0).any() or (small and (totals < RARE).any()))


def rare_classes(dataset: Dataset, split: Split) -> list[str]:
    """Return a warning of classes of which a test set that the source did not bring says little by itself."""
    totals = _used(dataset, split)
    rare = [f"{dataset.classes[i]} ({totals[i]})" for i in np.flatnonzero(totals < RARE)]
    if split.own or not rare:
        return []
    return [f"classes with under {RARE} pictures, of which few test, as their intervals show: {some(rare)}."]


def _used(dataset: Dataset, split: Split) -> np.ndarray:
    return dataset.pictures_by_class(np.concatenate([split.train, split.validation, split.test]))


def cross_validation_folds(
    dataset: Dataset, records: Sequence[Record], indices: np.ndarray, folds: int, repeats: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return train and test indices of repeated cross-validation, stratified, no unit divided.

    Folds come from scikit-learn's `StratifiedGroupKFold`, with several labels a picture from iterative stratification;
    they depend on contents and seed only, as `split`.

    Args:
        dataset: `n` usable pictures.
        records: Their `n` records, in the same order.
        indices: int64, the pictures to share out.
        folds: Parts in each repeat; fewer where no class has so many distinct pictures.
        repeats: How often the sharing out is repeated, each time otherwise.
        seed: Another seed gives other folds.

    Returns:
        For each repeat the pairs of its folds: int64 indices into the dataset, ascending. The test parts of one
        repeat hold every picture once.

    Raises:
        SettingError: `folds` is below 2, `repeats` below 1, or records and pictures do not match.
        DataError: A class has only one distinct picture, so that none would be left to learn from.
    """
    if folds < 2 or repeats < 1:
        raise SettingError(f"folds is {folds} and repeats is {repeats}: give at least 2 folds and 1 repeat.")
    _check_records(dataset, records)
    units = find_units(records, dataset.groups)
    keys = units.keys(seed)
    ordered = sorted(np.asarray(indices, np.int64).tolist(), key=lambda i: (keys[units.of[i]], records[i].digest))
    rows = np.array(ordered, np.int64)
    targets = _by_name(dataset)[rows]
    distinct = Counter(target for content in _contents(rows, dataset.targets, units.of).values() for target in content)
    single = [dataset.classes[target] for target, number in sorted(distinct.items()) if number < 2]
    if single:
        line = f"classes with one distinct picture, where testing needs two: {some(single)}. Add pictures."
        raise data_error(dataset.source, [line])
    from sklearn.model_selection import StratifiedGroupKFold

    # scikit-learn numbers groups by their values: give them in the order of the keys.
    groups = np.unique([keys[unit] for unit in units.of[rows]], return_inverse=True)[1]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for repeat in range(repeats):
        if dataset.several_labels:
            turn = np.random.default_rng(repeat).permutation(groups.max() + 1)[groups]
            number = min(folds, len(turn))
            dealt = share_out(targets, groups, turn, [1 / number] * number)
            parts += [(np.sort(rows[dealt != fold]), np.sort(rows[dealt == fold])) for fold in np.unique(dealt)]
            continue
        chooser = StratifiedGroupKFold(min(folds, max(distinct.values())), shuffle=True, random_state=repeat)
        with warnings.catch_warnings():
            # A class may have fewer pictures than there are folds: it is then absent from some test parts.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            parts += [(np.sort(rows[a]), np.sort(rows[b])) for a, b in chooser.split(rows, targets, groups)]
    return parts


def _by_name(dataset: Dataset) -> np.ndarray:
    """Return the targets, several labels in the order of their names: the order of columns decides nothing."""
    return dataset.targets[:, np.argsort(dataset.classes)] if dataset.several_labels else dataset.targets


def _cut(
    rows: np.ndarray, targets: np.ndarray, units: np.ndarray, keys: list[bytes], shares: tuple[float, float, float]
) -> np.ndarray:
    """Return the side of each row: train, validation or test in these shares, class by class.

    Units are taken in the order of their keys and go to test while they bring it nearer to its quotas, then to
    validation, then to train. So pictures added later move few others. With several labels a picture: iterative
    stratification, in the order of the keys. Either way no side is left without a class that has a unit for each.
    """
    contents = _contents(rows, targets, units)
    quotas, ordered = _quotas(contents, shares), sorted(contents, key=lambda unit: keys[unit])
    if targets.ndim == 2:
        turn = np.argsort(np.argsort(np.array(keys)))[units[rows]]
        dealt = share_out(targets[rows], units[rows], turn, shares)
        found = dict(zip(units[rows].tolist(), dealt.tolist(), strict=True))
        sides = {unit: found[unit] for unit in ordered}
    else:
        sides = _fill(ordered, contents, quotas)
    _fill_empty(sides, contents, quotas)
    return np.array([sides[unit] for unit in units[rows].tolist()], np.int64)


def _fill(ordered: list[int], contents: dict[int, Counter[int]], quotas: dict[int, list[int]]) -> dict[int, int]:
    """Return the side of each unit, taken in their order."""
    missing = {target: list(quota) for target, quota in quotas.items()}
    sides: dict[int, int] = {}
    for unit in ordered:
        content = contents[unit]
        fitting = (side for side in (_TEST, _VALIDATION) if _fits(content, side, quotas, missing))
        sides[unit] = next(fitting, _TRAIN)
        for target, number in content.items():
            missing[target][sides[unit]] -= number
    return sides


def _contents(rows: np.ndarray, targets: np.ndarray, units: np.ndarray) -> dict[int, Counter[int]]:
    """Return for each unit how many pictures of each class it has."""
    contents: dict[int, Counter[int]] = {}
    for unit, target in zip(units[rows].tolist(), targets[rows], strict=True):
        contents.setdefault(unit, Counter()).update(np.flatnonzero(target).tolist() if target.ndim else [int(target)])
    return contents


def _quotas(contents: dict[int, Counter[int]], shares: tuple[float, float, float]) -> dict[int, list[int]]:
    """Return for each class how many pictures each side should get, by largest remainders.

    Train gets one at least, and so does every side where the class has a unit for each; where it has two, test does.
    """
    pictures: Counter[int] = Counter()
    units: Counter[int] = Counter()
    for content in contents.values():
        pictures.update(content)
        units.update(content.keys())
    quotas = {}
    for target, number in pictures.items():
        exact = [number * share for share in shares]
        quota = [int(value) for value in exact]
        # Rounded, so that 0.15 * 20 leaves no remainder of 1e-16; equal remainders go to train first.
        remainders = [round(quota[side] - exact[side], 9) for side in range(3)]
        for side in sorted(range(3), key=lambda side: remainders[side])[: number - sum(quota)]:
            quota[side] += 1
        active = [side for side in range(3) if shares[side] > 0]
        few = [_TRAIN, _TEST] if shares[_TEST] > 0 and units[target] > 1 else [_TRAIN]
        wanted = active if units[target] >= len(active) else few
        for side in wanted:
            if quota[side] == 0:
                quota[max(range(3), key=lambda other: quota[other] - (other in wanted))] -= 1
                quota[side] += 1
        quotas[target] = quota
    return quotas


def _fits(content: Counter[int], side: int, quotas: dict[int, list[int]], missing: dict[int, list[int]]) -> bool:
    """Whether a unit is no larger than the side and brings it nearer to its quotas (in squared distance)."""
    if content.total() > sum(quotas[target][side] for target in content):
        return False
    return sum((missing[t][side] - number) ** 2 - missing[t][side] ** 2 for t, number in content.items()) < 0


def _fill_empty(sides: dict[int, int], contents: dict[int, Counter[int]], quotas: dict[int, list[int]]) -> None:
    """Move single units so that no side lacks a class that has a quota there; train comes first."""
    having = Counter((target, side) for unit, side in sides.items() for target in contents[unit])
    for side in (_TRAIN, _TEST, _VALIDATION):
        for target in sorted(quotas):
            if having[target, side] or not quotas[target][side]:
                continue
            # Only from where each of the unit's classes stays behind, unless train needs it.
            movable = [
                unit
                for unit, old in sides.items()
                if target in contents[unit] and (side == _TRAIN or all(having[t, old] > 1 for t in contents[unit]))
            ]
            if not movable:
                continue
            chosen = min(movable, key=lambda unit: (sides[unit], contents[unit].total()))
            having.subtract((t, sides[chosen]) for t in contents[chosen])
            having.update((t, side) for t in contents[chosen])
            sides[chosen] = side


def _check_records(dataset: Dataset, records: Sequence[Record]) -> None:
    if len(records) != len(dataset):
        raise SettingError(f"{len(records)} records for {len(dataset)} pictures: give the audit of these pictures.")
    broken = [record.path for record in records if record.problem is not None]
    if broken:
        raise SettingError(f"unreadable pictures cannot be split: {some(broken)}. Call audit.set_aside first.")


def _check_trained(dataset: Dataset, sides: np.ndarray) -> None:
    trained, present = dataset.pictures_by_class(sides == _TRAIN), dataset.pictures_by_class()
    lost = [dataset.classes[i] for i in np.flatnonzero((trained == 0) & (present > 0))]
    if lost:
        line = f"classes with no picture left to learn from: {some(lost)}. All of theirs are, or would leak into, test"
        raise data_error(dataset.source, [f"{line} or validation pictures. Add others to train."])


def _untested(dataset: Dataset, sides: np.ndarray, shares: tuple[float, float]) -> list[str]:
    """Return warnings of classes with too few units for a validation or test picture."""
    lines = []
    for side, name, share in ((_VALIDATION, "validation", shares[0]), (_TEST, "test", shares[1])):
        counts, present = dataset.pictures_by_class(sides == side), dataset.pictures_by_class()
        without = [dataset.classes[i] for i in np.flatnonzero((counts == 0) & (present > 0))]
        if without and share > 0 and dataset.splits is None:
            lines.append(f"classes with too few distinct pictures for a {name} picture: {some(without)}.")
    return lines
