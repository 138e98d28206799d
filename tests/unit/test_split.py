from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import DataError, SettingError
from headstart.learn.audit import Record
from headstart.learn.dataset import Dataset
from headstart.learn.split import Split, cross_validation_folds, needs_cross_validation, rare_classes, split
from headstart.learn.stratify import share_out

SIDES = ("train", "validation", "test")


def record(content: str, look: str | None = None) -> Record:
    """A record of made-up content; `look` is shared by pictures that are nearly the same."""
    digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    rng = np.random.default_rng(list((look or content).encode()))
    thumbnail = rng.integers(0, 256, 192, dtype=np.uint8).tobytes()
    return Record(f"/{content}.jpg", digest, int(rng.integers(2**63)), 300, 200, "JPEG", None, thumbnail)


def dataset(targets: list[int], *, splits: list[str] | None = None, groups: list[str | None] | None = None) -> Dataset:
    names = "abcdefghijkl" if max(targets) < 12 else [f"{target:04}" for target in range(max(targets) + 1)]
    classes = tuple(names[: max(targets) + 1])
    return Dataset(
        paths=tuple(f"/data/{i:05}.jpg" for i in range(len(targets))),
        targets=np.array(targets, np.int64),
        classes=classes,
        splits=None if splits is None else np.array(splits, object),
        groups=None if groups is None else np.array(groups, object),
        source="the test",
    )


def distinct(number: int) -> tuple[Record, ...]:
    return tuple(record(f"picture {i}") for i in range(number))


def side_of(result: Split) -> dict[int, str]:
    return {int(i): side for side in SIDES for i in getattr(result, side)}


def class_counts(data: Dataset, indices: np.ndarray) -> list[int]:
    return np.bincount(data.targets[indices], minlength=len(data.classes)).tolist()


@st.composite
def collections(draw: st.DrawFn) -> tuple[Dataset, tuple[Record, ...]]:
    """Pictures with copies, near-copies and groups, of one to four classes."""
    number = draw(st.integers(4, 60))
    contents = [f"content {draw(st.integers(0, 2 * number))}" for _ in range(number)]
    looks = {content: f"look {draw(st.integers(0, 3 * number))}" for content in sorted(set(contents))}
    groups = [draw(st.one_of(st.none(), st.integers(0, number).map(str))) for _ in range(number)]
    targets = [draw(st.integers(0, 3)) for _ in range(number)]
    has_groups = draw(st.booleans())
    data = dataset(targets, groups=groups if has_groups else None)
    return data, tuple(record(content, looks[content]) for content in contents)


def clumps(data: Dataset, records: tuple[Record, ...]) -> list[set[int]]:
    """What must stay together, found in the slow and plain way."""
    found: list[set[int]] = []
    for i, r in enumerate(records):
        marks = {r.digest, r.thumbnail.hex()}
        if data.groups is not None and data.groups[i] is not None:
            marks.add(f"group {data.groups[i]}")
        found.append({i, *marks})  # type: ignore[arg-type]
    merged: list[set[int]] = []
    for clump in found:
        touching = [other for other in merged if other & clump]
        merged = [other for other in merged if not other & clump]
        merged.append(clump.union(*touching))
    return [{item for item in clump if isinstance(item, int)} for clump in merged]


# Invariants


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5))
def test_every_picture_is_on_one_side_and_nothing_straddles(
    made: tuple[Dataset, tuple[Record, ...]], seed: int
) -> None:
    data, records = made
    result = split(data, records, seed=seed)
    everything = np.concatenate([result.train, result.validation, result.test])
    assert sorted(everything.tolist()) == list(range(len(data)))
    assert all((np.diff(getattr(result, side)) > 0).all() for side in SIDES)
    sides = side_of(result)
    for clump in clumps(data, records):
        assert len({sides[i] for i in clump}) == 1
    assert (result.dropped, result.own) == ((), False)
    # Every class can be learned.
    assert set(data.targets[result.train]) == set(data.targets)


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(made: tuple[Dataset, tuple[Record, ...]], seed: int, random: object) -> None:
    data, records = made
    order = list(range(len(data)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = data.subset(order)
    renamed = replace(shuffled, paths=tuple(f"/other/{i}.png" for i in reversed(range(len(data)))))
    before = side_of(split(data, records, seed=seed))
    after = side_of(split(renamed, tuple(records[i] for i in order), seed=seed))
    assert [after[new] for new in range(len(order))] == [before[old] for old in order]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 80), min_size=2, max_size=5),
    st.floats(0.01, 0.45),
    st.floats(0.01, 0.45),
    st.integers(0, 5),
)
def test_distinct_pictures_are_stratified_to_the_picture(
    sizes: list[int], validation: float, test: float, seed: int
) -> None:
    data = dataset([target for target, size in enumerate(sizes) for _ in range(size)])
    result = split(data, distinct(len(data)), validation=validation, test=test, seed=seed)
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    counts = {side: class_counts(data, getattr(result, side)) for side in SIDES}
    for target, size in enumerate(sizes):
        for side in SIDES:
            got = counts[side][target]
            # A side that would stay empty takes one from the largest, which may have been rounded down already.
            spread = 1 if size * min(shares.values()) >= 1 else 2
            assert abs(got - size * shares[side]) < spread + 1e-9
            assert got >= 1 or size < 3
        assert counts["train"][target] >= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=30), min_size=2, max_size=3), st.integers(0, 5))
def test_units_are_stratified_within_the_largest_unit(unit_sizes: list[list[int]], seed: int) -> None:
    targets, groups = [], []
    for target, sizes in enumerate(unit_sizes):
        for unit, size in enumerate(sizes):
            targets += [target] * size
            groups += [f"{target} {unit}"] * size
    data = dataset(targets, groups=groups)
    result = split(data, distinct(len(data)), seed=seed)
    for target, sizes in enumerate(unit_sizes):
        for side, share in (("validation", 0.15), ("test", 0.2)):
            got = class_counts(data, getattr(result, side))[target]
            assert got >= 1
            assert abs(got - sum(sizes) * share) <= max(sizes) + 1


def test_shares_are_those_asked_for_and_the_seed_matters() -> None:
    data = dataset([i % 2 for i in range(200)])
    records = distinct(200)
    result = split(data, records)
    assert [len(getattr(result, side)) for side in SIDES] == [130, 30, 40]
    assert class_counts(data, result.test) == [20, 20]
    assert split(data, records, seed=1).test.tolist() != result.test.tolist()
    assert split(data, records, seed=0).test.tolist() == result.test.tolist()
    assert result.test.dtype == np.int64
    other = split(data, records, validation=0, test=0.5)
    assert [len(getattr(other, side)) for side in SIDES] == [100, 0, 100]


def test_a_picture_added_later_moves_few_others() -> None:
    data = dataset([0] * 100 + [1] * 100)
    records = distinct(200)
    before = side_of(split(data, records))
    for new in range(20):
        larger = dataset([*data.targets.tolist(), new % 2])
        after = side_of(split(larger, (*records, record(f"new {new}"))))
        assert sum(before[i] != after[i] for i in range(200)) <= 2


def test_three_pictures_of_a_class_are_one_for_each_side_and_two_are_no_validation() -> None:
    data = dataset([0] * 3 + [1] * 2 + [2] * 40)
    result = split(data, distinct(45))
    assert [class_counts(data, getattr(result, side))[:2] for side in SIDES] == [[1, 1], [1, 0], [1, 1]]
    assert result.warnings == ("classes with too few distinct pictures for a validation picture: b.",)


def test_a_class_of_copies_only_stays_in_train() -> None:
    data = dataset([0] * 5 + [1] * 20)
    records = (*(record("one") for _ in range(5)), *distinct(20))
    result = split(data, records)
    assert class_counts(data, result.train)[0] == 5
    assert result.kept_together == {"identical": 5, "near-identical": 0, "same group": 0}
    assert "for a test picture: a." in result.warnings[1]


def test_what_was_kept_together_is_counted() -> None:
    data = dataset([0, 1] * 10, groups=["g", "g", "g", "alone", *[None] * 16])
    records = list(distinct(20))
    records[4] = records[6] = record("copy")
    records[8], records[10], records[12] = record("p", "same"), record("q", "same"), record("p", "same")
    assert split(data, records).kept_together == {"identical": 4, "near-identical": 3, "same group": 3}


def test_contradictory_labels_of_the_same_picture_are_told() -> None:
    data = dataset([0, 1] * 10)
    records = list(distinct(20))
    records[0] = records[1] = record("copy")
    records[2], records[3] = record("p", "same"), record("q", "same")
    assert split(data, records).warnings == (
        "1 pair of identical pictures with different labels: /data/00000.jpg (a) = /data/00001.jpg (b). "
        "Correct the labels or remove one.",
        "1 pair of near-identical pictures with different labels: /data/00002.jpg (a) = /data/00003.jpg (b). "
        "Correct the labels or remove one.",
    )


# Splits that the source brings


def own(roles: dict[str, int]) -> Dataset:
    splits = [role for role, number in roles.items() for _ in range(2 * number)]
    return dataset([i % 2 for i in range(len(splits))], splits=splits)


def test_of_train_and_validation_the_second_is_the_test_set() -> None:
    data = own({"train": 100, "validation": 50})
    result = split(data, distinct(300))
    assert result.own
    assert result.test.tolist() == list(range(200, 300))
    assert class_counts(data, result.validation) == [15, 15]
    assert len(result.train) == 170


def test_of_train_and_test_validation_is_cut_from_train() -> None:
    data = own({"train": 100, "test": 50})
    result = split(data, distinct(300), validation=0.3)
    assert result.own
    assert result.test.tolist() == list(range(200, 300))
    assert class_counts(data, result.validation) == [30, 30]


def test_all_three_are_used_as_they_are() -> None:
    data = own({"test": 10, "train": 20, "validation": 5})
    result = split(data, distinct(70))
    assert result.test.tolist() == list(range(20))
    assert result.train.tolist() == list(range(20, 60))
    assert result.validation.tolist() == list(range(60, 70))


def test_train_alone_is_split_like_pictures_without_splits() -> None:
    data = own({"train": 50})
    result = split(data, distinct(100))
    assert not result.own
    assert [len(getattr(result, side)) for side in SIDES] == [66, 14, 20]


def test_what_leaks_into_the_own_test_set_is_dropped_from_train_and_named() -> None:
    data = replace(own({"train": 20, "validation": 10}), groups=np.array([None] * 60, object))
    assert data.groups is not None
    data.groups[[6, 7, 45]] = "patient 7"
    records = list(distinct(60))
    records[40] = record("copied")
    records[0] = records[2] = record("copied")
    records[42] = record("p", "same")
    records[4] = record("q", "same")
    records[8] = record("r", "chain")
    data.groups[[8, 9]] = "chain"
    records[46] = record("s", "chain")
    result = split(data, records)
    assert result.dropped == (
        ("/data/00000.jpg", "identical to /data/00040.jpg, which is in validation"),
        ("/data/00002.jpg", "identical to /data/00040.jpg, which is in validation"),
        ("/data/00004.jpg", "near-identical to /data/00042.jpg, which is in validation"),
        ("/data/00006.jpg", "of the same group as /data/00045.jpg, which is in validation"),
        ("/data/00007.jpg", "of the same group as /data/00045.jpg, which is in validation"),
        ("/data/00008.jpg", "near-identical to /data/00046.jpg, which is in validation"),
        (
            "/data/00009.jpg",
            "connected, by near-identical pictures or groups, with /data/00046.jpg, which is in validation",
        ),
    )
    assert result.test.tolist() == list(range(40, 60)), "the own test set stays whole"
    left = sorted([*result.train.tolist(), *result.validation.tolist()])
    assert left == [i for i in range(40) if i not in (0, 2, 4, 6, 7, 8, 9)]


def test_with_three_own_splits_test_wins_over_validation_and_validation_over_train() -> None:
    data = own({"train": 5, "validation": 5, "test": 5})
    records = list(distinct(30))
    records[0] = records[10] = records[20] = record("everywhere")
    records[1] = records[11] = record("twice")
    result = split(data, records)
    assert result.train.tolist() == list(range(2, 10))
    assert result.validation.tolist() == list(range(11, 20))
    assert result.test.tolist() == list(range(20, 30))
    assert [path for path, _ in result.dropped] == ["/data/00000.jpg", "/data/00001.jpg", "/data/00010.jpg"]


@settings(max_examples=40, deadline=None)
@given(collections(), st.data())
def test_own_splits_never_leak(made: tuple[Dataset, tuple[Record, ...]], choice: st.DataObject) -> None:
    data, records = made
    roles = choice.draw(st.sampled_from([("train", "test"), ("train", "validation"), SIDES]))
    own_splits = [choice.draw(st.sampled_from(roles)) for _ in range(len(data))]
    data = replace(data, splits=np.array(own_splits, object))
    together = clumps(data, records)
    kept = {i for clump in together if len({own_splits[i] for i in clump}) == 1 for i in clump}
    if {"train"} != set(own_splits) and "train" in own_splits:
        learned = {data.targets[i] for i in kept if own_splits[i] == "train"}
    else:
        learned = set(data.targets) if "train" in own_splits else set()
    if learned != set(data.targets):
        with pytest.raises(DataError, match="no picture left to learn from"):
            split(data, records)
        return
    result = split(data, records)
    sides = side_of(result)
    for clump in together:
        assert len({sides[i] for i in clump if i in sides}) <= 1
    dropped = {data.paths.index(path) for path, _ in result.dropped}
    assert dropped | sides.keys() == set(range(len(data)))
    assert not dropped & sides.keys()
    if "test" in own_splits:
        assert result.test.tolist() == [i for i, name in enumerate(own_splits) if name == "test"]


def test_a_train_split_that_is_all_in_test_is_refused() -> None:
    data = own({"train": 5, "test": 5})
    records = distinct(10)
    with pytest.raises(DataError, match="classes with no picture left to learn from: a and b"):
        split(data, (*records, *records))


# Settings


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.2), (0.5, 0.5), (0.2, 1.0), (0.2, -1)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(SettingError, match="give shares from 0 that leave something for training"):
        split(dataset([0, 1]), distinct(2), validation=validation, test=test)


def test_records_must_be_those_of_the_pictures_and_readable() -> None:
    with pytest.raises(SettingError, match="3 records for 2 pictures"):
        split(dataset([0, 1]), distinct(3))
    broken = (record("a"), replace(record("b"), problem="it is empty."))
    with pytest.raises(SettingError, match=r"cannot be split: /b\.jpg\. Call audit\.set_aside first"):
        split(dataset([0, 1]), broken)


# Cross-validation


def of_sizes(*sizes: int) -> Dataset:
    return dataset([target for target, size in enumerate(sizes) for _ in range(size)])


@pytest.mark.parametrize(
    ("sizes", "needed"),
    [
        ((12, 12), True),
        ((19, 50), True),
        ((20, 50), False),
        ((20, 20), False),
        # A rare class of data that are large as a whole: 40 test pictures are.
        ((19, 175), True),
        ((19, 180), False),
        ((200, 200, 19), False),
        ((400, 2), False),
        ((19,) * 12, False),
        # Of four pictures a class test and validation would take two.
        ((4,) * 50, True),
        ((5,) * 50, False),
        ((400, *(3,) * 11), False),
    ],
)
def test_small_data_with_a_rare_class_need_cross_validation_and_others_do_not(
    sizes: tuple[int, ...], needed: bool
) -> None:
    data = of_sizes(*sizes)
    assert needs_cross_validation(data, split(data, distinct(len(data)))) is needed


def test_a_rare_class_of_large_data_is_on_every_side_and_named() -> None:
    data = of_sizes(200, 200, 19, 3)
    result = split(data, distinct(len(data)))
    assert [class_counts(data, getattr(result, side))[2:] for side in SIDES] == [[12, 1], [3, 1], [4, 1]]
    assert rare_classes(data, result) == [
        "classes with under 20 pictures, of which few test, as their intervals show: c (19) and d (3)."
    ]
    common = of_sizes(200, 20)
    assert rare_classes(common, split(common, distinct(220))) == []
    brought = replace(data, splits=np.array(["train", "test"] * 211, object))
    assert rare_classes(brought, split(brought, distinct(422))) == []


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.2), (0.15, 0.15), (0.1, 0.1), (0.2, 0.2), (0.3, 0.05)])
def test_of_two_pictures_of_a_class_one_is_learned_from_and_one_tests_whatever_the_shares(validation, test) -> None:
    data = of_sizes(1500, 1500, 2)
    result = split(data, distinct(3002), validation=validation, test=test)
    assert [class_counts(data, getattr(result, side))[2] for side in SIDES] == [1, 0, 1]
    assert not needs_cross_validation(data, result)


def test_of_several_labels_rare_ones_are_on_every_side_too() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((300, 60), bool)
    for label in range(60):
        targets[rng.choice(300, 4, replace=False), label] = True
    data = Dataset(tuple(f"/{i}.jpg" for i in range(300)), targets, tuple(f"{label:02}" for label in range(60)))
    result = split(data, distinct(300))
    assert all(data.pictures_by_class(getattr(result, side)).all() for side in SIDES)
    alone = share_out(targets, np.arange(300), rng.permutation(300), (0.65, 0.15, 0.2))
    assert not all(targets[alone == side].any(axis=0).all() for side in range(3)), (
        "stratification alone leaves some out"
    )
    order = rng.permutation(300)
    again = split(data.subset(order), tuple(distinct(300)[i] for i in order))
    assert sorted(order[again.test].tolist()) == result.test.tolist()


def test_a_class_that_cannot_be_tested_needs_cross_validation() -> None:
    data = dataset([0] * 30 + [1] * 50)
    records = (*(record("one") for _ in range(30)), *distinct(50))
    assert needs_cross_validation(data, split(data, records))


def test_an_own_test_set_stays_untouched_however_small_a_class_is() -> None:
    data = dataset([0] * 12 + [1] * 50, splits=(["train"] * 8 + ["test"] * 4) + (["train"] * 30 + ["test"] * 20))
    assert not needs_cross_validation(data, split(data, distinct(62)))


def test_an_own_test_set_that_leaves_a_class_out_does_not_need_cross_validation() -> None:
    data = dataset([0] * 30 + [1] * 50, splits=["train"] * 50 + ["test"] * 30)
    assert not needs_cross_validation(data, split(data, distinct(80)))


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(2, 6), st.integers(1, 3), st.integers(0, 3))
def test_folds_test_every_picture_once_a_repeat_and_divide_nothing(
    made: tuple[Dataset, tuple[Record, ...]], folds: int, repeats: int, seed: int
) -> None:
    data, records = made
    everything = np.arange(len(data))
    together = clumps(data, records)
    distinct_ones = [
        sum(any(data.targets[i] == target for i in clump) for clump in together) for target in set(data.targets)
    ]
    if min(distinct_ones) < 2:
        with pytest.raises(DataError, match="one distinct picture"):
            cross_validation_folds(data, records, everything, folds, repeats, seed)
        return
    parts = cross_validation_folds(data, records, everything, folds, repeats, seed)
    each = len(parts) // repeats
    assert 2 <= each <= folds
    assert len(parts) == each * repeats
    for repeat in range(repeats):
        tested = np.concatenate([test for _, test in parts[repeat * each : (repeat + 1) * each]])
        assert sorted(tested.tolist()) == everything.tolist()
    for train, test in parts:
        assert sorted([*train.tolist(), *test.tolist()]) == everything.tolist()
        assert not any(clump & set(train.tolist()) and clump & set(test.tolist()) for clump in together)


@pytest.mark.parametrize("sizes", [(12, 12), (5, 19), (2, 2), (3, 15, 7), (2, 30)])
def test_folds_are_stratified_and_always_leave_every_class_to_learn_from(sizes: tuple[int, ...]) -> None:
    data = dataset([target for target, size in enumerate(sizes) for _ in range(size)])
    for seed in range(5):
        for train, test in cross_validation_folds(data, distinct(len(data)), np.arange(len(data)), 5, 2, seed):
            folds = min(5, max(sizes))
            for size, tested in zip(sizes, class_counts(data, test), strict=True):
                assert abs(tested - size / folds) <= 1
            assert all(class_counts(data, train))


def test_folds_depend_on_content_and_seed_only() -> None:
    data, records = dataset([0] * 8 + [1] * 9), distinct(17)
    order = np.random.default_rng(0).permutation(17)
    shuffled = replace(data.subset(order), paths=tuple(f"/x/{i}" for i in range(17)))
    first = cross_validation_folds(data, records, np.arange(17), 4, 2, 0)
    second = cross_validation_folds(shuffled, tuple(records[i] for i in order), np.arange(17), 4, 2, 0)
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert sorted(order[b].tolist()) == a.tolist()
    tests = [test.tolist() for _, test in first]
    assert len({tuple(test) for test in tests}) == len(tests), "repeats differ"
    other = cross_validation_folds(data, records, np.arange(17), 4, 2, 1)
    assert [test.tolist() for _, test in other] != tests


def test_folds_share_out_only_the_indices_given() -> None:
    data, records = dataset([0, 1] * 10), distinct(20)
    chosen = np.array([1, 2, 5, 6, 9, 10, 13, 14])
    parts = cross_validation_folds(data, records, chosen, 2, 1, 0)
    assert Counter(i for _, test in parts for i in test.tolist()) == Counter(chosen.tolist())


def test_folds_need_two_distinct_pictures_of_each_class() -> None:
    data = dataset([0] * 3 + [1] * 9)
    records = (*(record("one") for _ in range(3)), *distinct(9))
    with pytest.raises(DataError, match="classes with one distinct picture, where testing needs two: a"):
        cross_validation_folds(data, records, np.arange(12), 3, 1, 0)
    with pytest.raises(SettingError, match="folds is 1 and repeats is 1"):
        cross_validation_folds(data, records, np.arange(12), 1, 1, 0)


def test_a_thousand_classes_of_three_are_split_class_by_class() -> None:
    targets = [target for target in range(1000) for _ in range(3)]
    data = Dataset(tuple(f"/{i}.jpg" for i in range(3000)), np.array(targets), tuple(f"{i:04}" for i in range(1000)))
    result = split(data, distinct(3000))
    sides: dict[int, list[str]] = defaultdict(list)
    for i, side in side_of(result).items():
        sides[targets[i]].append(side)
    assert all(sorted(found) == sorted(SIDES) for found in sides.values())
