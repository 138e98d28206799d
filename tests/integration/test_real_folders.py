from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.learn.audit import Record, audit, set_aside
from headstart.learn.dataset import Dataset, read_dataset
from headstart.learn.duplicates import identical_pairs, near_pairs
from headstart.learn.split import needs_cross_validation, split


@pytest.fixture(scope="module")
def insects(hymenoptera: Path) -> tuple[Dataset, tuple[Record, ...]]:
    dataset = read_dataset(hymenoptera)
    kept, records, unreadable = set_aside(dataset, audit(dataset.paths))
    assert unreadable == ()
    return kept, records


@pytest.fixture(scope="module")
def pets(catdog: Path) -> tuple[Dataset, tuple[Record, ...]]:
    dataset = read_dataset(catdog)
    kept, records, unreadable = set_aside(dataset, audit(dataset.paths))
    assert unreadable == ()
    return kept, records


def class_counts(dataset: Dataset, indices: np.ndarray) -> dict[str, int]:
    return dict(zip(dataset.classes, np.bincount(dataset.targets[indices]).tolist(), strict=True))


def test_hymenoptera_is_split_as_its_folders_say(insects: tuple[Dataset, tuple[Record, ...]]) -> None:
    dataset, records = insects
    result = split(dataset, records)
    assert dataset.classes == ("ants", "bees")
    assert result.own
    assert class_counts(dataset, result.test) == {"ants": 70, "bees": 83}
    assert all("/val/" in dataset.paths[i] for i in result.test)
    assert all("/train/" in dataset.paths[i] for i in (*result.train, *result.validation))
    assert len(result.validation) == round(0.15 * (len(result.train) + len(result.validation)))
    assert result.dropped == ()
    assert not needs_cross_validation(dataset, result)


def test_every_header_agrees_with_pillow(insects: tuple[Dataset, tuple[Record, ...]]) -> None:
    for record in insects[1][::10]:
        with Image.open(record.path) as image:
            assert (record.width, record.height, record.format) == (*image.size, image.format)


def test_catdog_has_one_near_identical_pair_which_stays_together(pets: tuple[Dataset, tuple[Record, ...]]) -> None:
    dataset, records = pets
    assert identical_pairs(records).tolist() == []
    # Looked at: the same four puppies, once with another writing.
    pairs = [{os.path.basename(dataset.paths[i]) for i in pair} for pair in near_pairs(records)]
    assert pairs == [{"dog.74.jpg", "dog.180.jpg"}]
    for seed in range(5):
        result = split(dataset, records, seed=seed)
        assert result.kept_together == {"identical": 0, "near-identical": 2, "same group": 0}
        sides = [
            {os.path.basename(dataset.paths[i]) for i in part} & pairs[0]
            for part in (result.train, result.validation, result.test)
        ]
        assert sorted(map(len, sides)) == [0, 0, 2]


COPIES: dict[str, Callable[[Image.Image, Path], None]] = {
    "re-encoded": lambda image, path: image.save(path, "JPEG", quality=60),
    "resized": lambda image, path: image.resize((image.width * 6 // 10, image.height * 6 // 10)).save(path, "PNG"),
    "brighter": lambda image, path: image.point(lambda v: min(255, int(v * 1.05))).save(path, "JPEG", quality=90),
    "cropped": lambda image, path: image.crop(
        (image.width * 15 // 1000, image.height * 15 // 1000, image.width * 985 // 1000, image.height * 985 // 1000)
    ).save(path, "JPEG", quality=90),
}


@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_are_found_and_nothing_else(
    tmp_path: Path, insects: tuple[Dataset, tuple[Record, ...]], kind: str
) -> None:
    dataset, records = insects
    originals = list(range(0, len(dataset), 10))
    paths = [tmp_path / f"{i}.jpg" for i in originals]
    for i, path in zip(originals, paths, strict=True):
        with Image.open(dataset.paths[i]) as image:
            COPIES[kind](image.convert("RGB"), path)
    found = {tuple(pair) for pair in near_pairs((*records, *audit([str(path) for path in paths]))).tolist()}
    planted = {(i, len(dataset) + copy) for copy, i in enumerate(originals)}
    assert len(found & planted) >= 0.95 * len(planted)
    assert found <= planted


def test_copies_of_test_pictures_planted_in_train_are_dropped(tmp_path: Path, hymenoptera: Path) -> None:
    root = tmp_path / "insects"
    for part, number in (("train", 30), ("val", 10)):
        for name in ("ants", "bees"):
            (root / part / name).mkdir(parents=True)
            for path in sorted((hymenoptera / part / name).glob("*.jpg"))[:number]:
                shutil.copy(path, root / part / name)
    leaked = sorted((root / "val" / "bees").iterdir())[0]
    shutil.copy(leaked, root / "train" / "bees" / "copy.jpg")
    with Image.open(leaked) as image:
        image.resize((image.width // 2, image.height // 2)).save(root / "train" / "bees" / "small.png")
    (root / "train" / "ants" / "cut.jpg").write_bytes(leaked.read_bytes()[:5000])
    dataset = read_dataset(root)
    kept, records, unreadable = set_aside(dataset, audit(dataset.paths))
    assert [path for path, _ in unreadable] == [str(root / "train" / "ants" / "cut.jpg")]
    result = split(kept, records)
    assert result.dropped == (
        (str(root / "train/bees/copy.jpg"), f"identical to {leaked}, which is in validation"),
        (str(root / "train/bees/small.png"), f"near-identical to {leaked}, which is in validation"),
    )
    assert len(result.test) == 20


def test_renaming_and_mixing_all_files_leaves_every_picture_on_its_side(
    tmp_path: Path, pets: tuple[Dataset, tuple[Record, ...]]
) -> None:
    dataset, records = pets
    chosen = np.arange(0, len(dataset), 7)
    before = split(dataset.subset(chosen), tuple(records[i] for i in chosen))
    names = np.random.default_rng(0).permutation(len(chosen))
    for i, name in zip(chosen, names, strict=True):
        target = tmp_path / dataset.classes[dataset.targets[i]] / f"{name}.jpeg"
        target.parent.mkdir(exist_ok=True)
        os.symlink(dataset.paths[i], target)
    renamed = read_dataset(tmp_path)
    after_records = audit(renamed.paths)
    after = split(renamed, after_records)
    for side in ("train", "validation", "test"):
        digests = {records[chosen[i]].digest for i in getattr(before, side)}
        assert digests == {after_records[i].digest for i in getattr(after, side)}
