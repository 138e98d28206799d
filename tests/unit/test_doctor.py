from __future__ import annotations

import csv
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
from conftest import draw
from PIL import Image

from headstart.core.errors import SettingError
from headstart.core.findings import KINDS, Balance, Checkup, sort_kinds
from headstart.core.metrics import Figure
from headstart.learn.audit import audit
from headstart.learn.dataset import Dataset, read_dataset
from headstart.learn.doctor import examine, judge, write_clean_manifest
from headstart.learn.doctor.manifest import check_kinds
from headstart.learn.doctor.parts import Pictures
from headstart.learn.doctor.quality import Quality, look, oddities, qualities
from headstart.learn.heads.linear import cross_validated
from headstart.learn.prepare import Prepared, prepare


def two_clouds(n: int = 120, d: int = 8, apart: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of two classes, standard normal around two centres."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 2
    features = rng.normal(size=(n, d)).astype(np.float32)
    features[:, 0] += apart * targets
    return features, targets


def names(checkup: Checkup, kind: str) -> list[str]:
    return [Path(suspect.path).name for suspect in checkup.findings[kind]]


# Cross-validated probabilities


def test_cross_validated_probabilities_are_those_of_scikit_learn_fold_by_fold() -> None:
    from sklearn.linear_model import LogisticRegression

    from headstart.learn.heads import LinearHead
    from headstart.learn.heads.folds import deal_folds

    features, targets = two_clouds(apart=1.5)
    got = cross_validated(features, targets, 2)
    held_out = deal_folds(targets, np.arange(len(targets)), 5, 0)
    strength = LinearHead().fit(features, targets, 2).chosen["C"]
    centred = features - features.mean(axis=0)
    centred /= np.sqrt((centred**2).sum(axis=1).mean())
    expected = np.empty_like(got)
    for fold in range(5):
        inside = held_out != fold
        reference = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(centred[inside], targets[inside])
        expected[~inside] = reference.predict_proba(centred[~inside])
    assert np.abs(got - expected).max() < 0.01


def test_no_picture_is_judged_by_a_head_that_saw_its_group_or_a_distrusted_one() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 200)).astype(np.float32)  # so many that a head remembers every picture
    targets = rng.integers(0, 2, 60)
    features, targets = np.repeat(features, 2, axis=0), np.repeat(targets, 2)
    groups = np.repeat(np.arange(60), 2)
    alone = cross_validated(features, targets, 2)
    together = cross_validated(features, targets, 2, groups=groups)
    assert (alone.argmax(axis=1) == targets).mean() > 0.8  # from the copy
    assert abs((together.argmax(axis=1) == targets).mean() - 0.5) < 0.2
    trusted = np.arange(120) % 2 == 0  # the copies are not learned from
    assert (
        abs((cross_validated(features, targets, 2, trusted=trusted)[::2].argmax(1) == targets[::2]).mean() - 0.5) < 0.2
    )


def test_a_class_of_one_picture_is_not_judged_and_many_classes_take_folds_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from headstart.learn.heads import linear

    features, targets = two_clouds(n=41)
    targets[0] = 2
    got = cross_validated(features, targets, 3)
    assert np.isnan(got[0]).all()
    assert np.allclose(got[1:].sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr(linear, "COEFFICIENT_LIMIT", 1)  # one fold at a time
    in_turn = cross_validated(features, targets, 3)
    assert np.isnan(in_turn[0]).all()
    assert (in_turn[1:].argmax(axis=1) == got[1:].argmax(axis=1)).mean() > 0.95


# Labels, outliers, pairs, leaks


def test_planted_wrong_labels_are_found_and_little_else() -> None:
    recalls, precisions = [], []
    for seed in range(5):
        features, truth = two_clouds(n=300, apart=5.0, seed=seed)
        bad = np.random.default_rng(seed).choice(300, 15, replace=False)
        targets = truth.copy()
        targets[bad] = 1 - targets[bad]
        _, doubted = judge.cross_validate(features, targets, 2, np.arange(300))
        recalls.append(doubted[bad].mean())
        precisions.append(np.isin(np.flatnonzero(doubted), bad).mean())
    assert np.mean(recalls) > 0.9
    assert np.mean(precisions) > 0.9


def test_right_labels_are_left_alone() -> None:
    features, targets = two_clouds(n=200, apart=6.0)
    probabilities, doubted = judge.cross_validate(features, targets, 2, np.arange(200))
    assert doubted.sum() <= 2
    assert (probabilities.argmax(axis=1) == targets).mean() > 0.98


def test_a_distance_is_one_minus_the_mean_cosine_with_five_others_of_other_units() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 6)).astype(np.float32)
    units = np.arange(30)
    units[1] = 0
    got = judge.distances(features, units)
    for i in (0, 1, 7):
        others = [j for j in range(30) if units[j] != units[i]]
        cosines = [
            float(features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])) for j in others
        ]
        assert got[i] == pytest.approx(1 - np.mean(sorted(cosines)[-5:]), abs=1e-5)


def test_with_many_pictures_a_part_of_them_is_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.abs(np.random.default_rng(0).normal(size=(200, 6))).astype(np.float32)
    features[17] *= -1
    monkeypatch.setattr(judge, "MAX_BANK", 50)
    far = judge.distances(features, np.arange(200))
    assert far.argmax() == 17
    assert (judge.outlying(far, np.zeros(200, int))[0] > judge.Z_LIMIT)[17]


def test_the_modified_z_score_by_hand() -> None:
    # Median 3, deviations 2 1 0 1 97, their median 1.
    assert judge.modified_z(np.array([1.0, 2, 3, 4, 100])) == pytest.approx(0.6745 * np.array([-2, -1, 0, 1, 97]))


def test_a_class_of_nearly_equal_pictures_makes_no_outliers_of_another_class() -> None:
    rng = np.random.default_rng(0)
    far = np.concatenate([rng.uniform(0, 1e-4, 60), rng.normal(0.35, 0.04, 40)])  # 60 blank pages and 40 cats
    z, usual = judge.outlying(far, np.repeat([0, 1], [60, 40]))
    assert (z > judge.Z_LIMIT).sum() <= 1
    assert usual[0] == pytest.approx(np.median(far[:60]))
    assert usual[99] == pytest.approx(np.median(far[60:]))
    far[70], far[3] = 0.8, 0.3  # no cat like the others, and a page that is not blank
    assert set(np.flatnonzero(judge.outlying(far, np.repeat([0, 1], [60, 40]))[0] > judge.Z_LIMIT)) == {3, 70}


def test_no_more_than_a_small_share_of_a_class_are_outliers() -> None:
    rng = np.random.default_rng(0)
    for other in (1, 5, 20, 45):  # pictures of another kind in the same class
        far = np.concatenate([rng.normal(0.03, 0.002, 100 - other), rng.normal(0.4, 0.03, other)])
        named = np.flatnonzero(judge.outlying(far, np.zeros(100, int))[0] > judge.Z_LIMIT)
        assert len(named) <= 5
        if other <= 5:
            assert named.tolist() == list(range(100 - other, 100))
    assert (judge.outlying(np.array([0.01, 0.01, 0.01, 0.9]), np.zeros(4, int))[0] > judge.Z_LIMIT).tolist() == [
        *[False] * 3,
        True,
    ]


def test_classes_that_are_the_same_cannot_be_told_apart_and_others_can() -> None:
    rng = np.random.default_rng(1)
    targets = np.repeat([0, 1, 2], 60)
    features = rng.normal(size=(180, 5)).astype(np.float32)
    features[targets == 2, 0] += 8
    pairs = judge.hard_pairs(targets, cross_validated(features, targets, 3), ("one", "same as one", "other"))
    assert [(pair.first, pair.second, pair.chance) for pair in pairs] == [("one", "same as one", True)]
    assert pairs[0].accuracy.low <= 0.5 <= pairs[0].accuracy.high
    assert pairs[0].pictures == 120
    easy = judge.hard_pairs(targets // 2, cross_validated(features, targets // 2, 2), ("both", "other"))
    assert easy == ()


def test_leaks_inflate_what_remembers_and_the_score_without_them_is_the_honest_one() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 50)).astype(np.float32)
    targets = rng.integers(0, 2, 200)  # nothing to learn: the honest accuracy is one half
    units = np.arange(200)
    tested = np.arange(200) >= 140
    features[:40], targets[:40], units[:40] = features[140:180], targets[140:180], units[140:180]
    leaking = ~tested & np.isin(units, units[tested])
    leakage = judge.measure_leakage(features, targets, 2, units, tested, leaking)
    assert leakage is not None
    assert (leakage.leaking, leakage.touched, leakage.tested) == (40, 40, 60)
    nearest = leakage.inflation[1]
    assert nearest.method == "nearest neighbour"
    assert nearest.touched_with.value == 1
    assert nearest.with_leaks.value - nearest.without.value > 0.2
    assert abs(nearest.touched_without.value - 0.5) < 0.25
    assert judge.measure_leakage(features, targets, 2, np.arange(200), tested, np.zeros(200, bool)) is None


def test_no_label_is_judged_where_the_head_is_not_shown_to_be_better_than_guessing(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    for i in range(8):  # both classes are dots
        make_picture(tmp_path / "data" / "ab"[i % 2] / f"{i}.jpg", "dots", seed=i)
    found, _ = examine(tmp_path / "data")
    assert found.findings["labels"] == ()
    assert any(note.startswith("Labels were not judged") for note in found.notes)
    sure = np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1))
    assert judge.better_than_guessing(np.tile([0, 1], 20), sure, 2)
    assert not judge.better_than_guessing(np.repeat([0, 1], 20), sure, 2)


# Pixels and files


def quality_of(pixels: np.ndarray, tmp_path: Path) -> Quality:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return look((tmp_path / "a.png").read_bytes())


def test_brightness_is_cleanvision_s(tmp_path: Path) -> None:
    measures = pytest.importorskip("cleanvision.issue_managers.image_property")
    pixels = draw("dots", (100, 150), 3)
    expected = measures.BrightnessProperty("dark").calculate(Image.fromarray(pixels))
    got = quality_of(pixels, tmp_path)
    assert got.bright == pytest.approx(expected["brightness_perc_99"], abs=1e-3)
    assert got.dark == pytest.approx(expected["brightness_perc_5"], abs=1e-3)


def test_the_entropy_of_known_pictures(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 90, np.uint8)
    assert quality_of(grey, tmp_path).entropy == 0
    half = grey.copy()
    half[:32] = 200
    assert quality_of(half, tmp_path).entropy == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda p: cv2.GaussianBlur(p, (0, 0), 12), "blurry"),
        (lambda p: p // 8, "dark"),
        (lambda p: 248 + p // 40, "bright"),
        (lambda p: np.full_like(p, 120), "plain"),
        (lambda p: p[:20, :20], "tiny"),
        (lambda p: p[:60], "long"),
    ],
)
def test_a_spoiled_picture_is_named_by_its_fault_and_the_picture_as_it_was_by_none(
    change: Callable[[np.ndarray], np.ndarray], kind: str, tmp_path: Path
) -> None:
    pixels = draw("checks", (300, 400), 5)
    for spoiled in (False, True):
        file = tmp_path / f"{spoiled}.png"
        Image.fromarray(np.ascontiguousarray(change(pixels)) if spoiled else pixels).save(file)
        (record,) = audit([str(file)])
        found = oddities(record, look(file.read_bytes()))
        assert (kind in found) == spoiled, found


def test_a_wrong_suffix_and_odd_pixels_are_odd(tmp_path: Path) -> None:
    image = Image.fromarray(draw("dots", (100, 120), 0))
    image.save(tmp_path / "a.jpg", "PNG")
    image.convert("CMYK").save(tmp_path / "b.jpg")
    image.save(tmp_path / "c.JPEG")
    reasons = []
    for name in ("a.jpg", "b.jpg", "c.JPEG"):
        (record,) = audit([str(tmp_path / name)])
        reasons.append(oddities(record, look((tmp_path / name).read_bytes())).get("odd", ("", 0))[0])
    assert reasons == ["the name ends in .jpg, the content is PNG", "it has colours for printing (CMYK)", ""]


def test_pixels_are_measured_once_for_a_content_and_a_vanished_file_is_no_crash(tmp_path: Path) -> None:
    Image.fromarray(draw("dots", (100, 120), 0)).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    records = audit([str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    store: dict[str, dict[str, object]] = {}
    first = qualities(records, store)
    assert len(store) == 1
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    assert qualities(records, store) == first
    assert qualities(records, {}) == [None, None]


# All together, on a messy folder


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> Path:
    """Dots and stripes in train/ and val/ with one of everything wrong."""
    root = tmp_path_factory.mktemp("doctor") / "messy"
    for part, numbers in (("train", range(24)), ("val", range(30, 40))):
        for kind in ("dots", "stripes"):
            for i in numbers:
                make_picture(root / part / kind / f"{kind}-{i}.jpg", kind, (120, 160), 100 + i)
    train, val = root / "train", root / "val"
    make_picture(train / "dots" / "wrong.jpg", "stripes", (120, 160), 777)
    shutil.copy(val / "dots" / "dots-31.jpg", train / "dots" / "leak.jpg")
    shutil.copy(train / "dots" / "dots-1.jpg", train / "dots" / "twice.jpg")
    shutil.copy(train / "dots" / "dots-2.jpg", train / "stripes" / "both.jpg")
    Image.new("RGB", (160, 120), (90, 140, 200)).save(train / "dots" / "blank.png")
    (train / "stripes" / "broken.jpg").write_bytes(b"broken")
    return root


@pytest.fixture(scope="module")
def examined(messy: Path) -> tuple[Checkup, Prepared]:
    return examine(messy)


@pytest.fixture(scope="module")
def checkup(examined: tuple[Checkup, Prepared]) -> Checkup:
    return examined[0]


def test_everything_planted_in_a_folder_is_found(checkup: Checkup) -> None:
    assert names(checkup, "unreadable") == ["broken.jpg"]
    assert names(checkup, "leaks") == ["leak.jpg"]
    assert sorted(names(checkup, "contradictions")) == ["both.jpg", "dots-2.jpg"]
    assert names(checkup, "duplicates") == ["twice.jpg"]
    assert names(checkup, "plain") == ["blank.png"]
    assert names(checkup, "outliers")[:1] == ["blank.png"]
    assert "wrong.jpg" in names(checkup, "labels")
    wrong = next(one for one in checkup.findings["labels"] if one.path.endswith("wrong.jpg"))
    assert (wrong.label, wrong.suggestion, wrong.split) == ("dots", "stripes", "train")
    assert checkup.leakage is not None
    assert (checkup.leakage.leaking, checkup.leakage.touched, checkup.leakage.tested) == (1, 1, 20)
    assert list(checkup.findings) == [kind for kind in KINDS if kind in checkup.findings]


def test_a_duplicate_says_which_picture_stays(checkup: Checkup, messy: Path) -> None:
    (twice,) = checkup.findings["duplicates"]
    assert twice.others == (str(messy / "train" / "dots" / "dots-1.jpg"),)
    assert twice.reason == "identical to train/dots/dots-1.jpg, which stays"


def test_the_part_of_a_picture_is_that_of_the_counts(examined: tuple[Checkup, Prepared]) -> None:
    checkup, prepared = examined
    rows = {path: row for row, path in enumerate(prepared.dataset.paths)}
    sides = {rows[path]: part for part in ("train", "validation", "test") for path in _paths(prepared, part)}
    suspects = [
        one for kind in ("contradictions", "labels", "outliers", "duplicates") for one in checkup.findings[kind]
    ]
    assert suspects
    for one in suspects:
        assert one.split == sides[rows[one.path]]
    assert {one.split for kind in ("leaks", "unreadable") for one in checkup.findings[kind]} == {"train"}
    # val/ tests, as there is no test/.
    pictures = Pictures.of(prepared)
    assert {pictures.parts[row] for path, row in rows.items() if "/val/" in path} == {"test"}


def _paths(prepared: Prepared, part: str) -> list[str]:
    return [prepared.dataset.paths[row] for row in prepared.parts()[part]]


def test_without_features_nothing_is_said_that_needs_them(messy: Path) -> None:
    quick, _ = examine(messy, backbone=None)
    assert not {"labels", "outliers"} & set(quick.findings)
    assert (quick.pairs, quick.leakage, quick.accuracy, quick.backbone) == (None, None, None, "")
    assert names(quick, "duplicates") == ["twice.jpg"]


def test_what_most_pictures_share_is_told_once(class_folders: Callable[..., Path]) -> None:
    folder = class_folders(per_class=6, size=(24, 24))
    found, _ = examine(folder, backbone=None)
    assert found.findings["tiny"] == ()
    assert any(line.startswith("Tiny: 12 of 12 pictures") for line in found.usual)


def test_the_real_placeholder_among_the_ants_is_the_first_outlier(hymenoptera: Path) -> None:
    found, _ = examine(hymenoptera)
    assert names(found, "outliers")[0] == "imageNotFound.gif"


# The manifest


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_manifest_leaves_out_what_was_agreed_to_changes_no_file_and_can_be_read_again(
    examined: tuple[Checkup, Prepared], messy: Path, tmp_path: Path
) -> None:
    before = snapshot(messy)
    written = write_clean_manifest(messy, examined, ("unreadable", "duplicates", "leaks"), tmp_path / "clean.csv")
    assert snapshot(messy) == before
    assert (written.left_out, written.tested) == (3, 0)
    again = read_dataset(tmp_path / "clean.csv")
    assert len(again) == written.kept == len(read_dataset(messy)) - 3
    gone = {Path(path).name for path in set(read_dataset(messy).paths) - set(again.paths)}
    assert gone == {"broken.jpg", "twice.jpg", "leak.jpg"}
    clean, _ = examine(tmp_path / "clean.csv", backbone=None)
    assert (clean.findings["unreadable"], clean.findings["leaks"], clean.findings["duplicates"]) == ((), (), ())


def hard(examined: tuple[Checkup, Prepared], paths: list[str]) -> tuple[Checkup, Prepared]:
    """The same with these pictures, and no others, as likely wrong labels."""
    checkup, prepared = examined
    pictures = Pictures.of(prepared)
    rows = {path: row for row, path in enumerate(prepared.dataset.paths)}
    suspects = tuple(pictures.suspect(rows[path], "hard", 1.0) for path in paths)
    return replace(checkup, findings={**checkup.findings, "labels": suspects}), prepared


def test_a_judgement_leaves_out_no_picture_that_tests_unless_that_is_asked_for(
    examined: tuple[Checkup, Prepared], messy: Path, tmp_path: Path
) -> None:
    learned, tested = messy / "train" / "dots" / "dots-9.jpg", messy / "val" / "dots" / "dots-33.jpg"
    found = hard(examined, [str(learned), str(tested)])
    written = write_clean_manifest(messy, found, ("labels",), tmp_path / "clean.csv")
    assert (written.left_out, written.tested, written.split) == (1, 1, False)
    paths = read_dataset(tmp_path / "clean.csv").paths
    assert str(tested) in paths
    assert str(learned) not in paths
    written = write_clean_manifest(messy, found, ("labels",), tmp_path / "all.csv", of_test=True)
    assert (written.left_out, written.tested) == (2, 0)
    assert not {str(tested), str(learned)} & set(read_dataset(tmp_path / "all.csv").paths)


def test_after_a_judgement_a_fit_tests_on_the_pictures_that_were_looked_at(
    class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    folder = class_folders(per_class=25)
    examined = examine(folder, backbone=None)
    examined = (replace(examined[0], backbone="b0"), examined[1])
    tested = _paths(examined[1], "test")
    found = hard(examined, [*tested[:3], *_paths(examined[1], "train")[:4]])
    written = write_clean_manifest(folder, found, ("labels",), tmp_path / "clean.csv")
    assert (written.left_out, written.tested, written.split) == (4, 3, True)
    for seed in (0, 1):
        again = prepare(str(tmp_path / "clean.csv"), seed=seed)
        assert sorted(_paths(again, "test")) == sorted(tested)
        assert not again.cross_validate


def test_where_every_picture_tests_a_judgement_leaves_none_out(
    class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    folder = class_folders(per_class=6)
    checkup, prepared = examine(folder, backbone=None)
    assert prepared.cross_validate
    found = hard((replace(checkup, backbone="b0"), prepared), list(prepared.dataset.paths[:2]))
    written = write_clean_manifest(folder, found, ("labels",), tmp_path / "clean.csv")
    assert (written.left_out, written.tested, written.split) == (0, 2, False)


def test_paths_below_the_manifest_are_relative_and_its_columns_are_kept(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    rows = []
    for i in range(8):
        make_picture(tmp_path / "p" / f"{i}.jpg", ("dots", "stripes")[i % 2], seed=i)
        rows.append([f"p/{i}.jpg", "NA" if i % 2 else 'a,"b"', f"site {i // 2}", i])
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "group", "camera"], *rows])
    found = examine(tmp_path / "data.csv", backbone=None)
    write_clean_manifest(tmp_path / "data.csv", found, ("all",), tmp_path / "clean.csv")
    with (tmp_path / "clean.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["path", "label", "group", "camera"], *[list(map(str, row)) for row in rows]]


@pytest.mark.parametrize(
    ("name", "kinds", "text"),
    [
        ("there.csv", ("duplicates",), "is there already"),
        ("clean.txt", ("duplicates",), "does not end in .csv"),
        ("absent/clean.csv", ("duplicates",), "does not exist"),
        ("clean.csv", ("dupes",), "did you mean 'duplicates'"),
        ("clean.csv", ("labels",), "was not looked for"),
    ],
)
def test_a_manifest_that_cannot_be_written_is_one_clear_error(
    name: str, kinds: tuple[str, ...], text: str, messy: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    quick = examine(messy, backbone=None)
    with pytest.raises(SettingError, match=text):
        write_clean_manifest(messy, quick, kinds, tmp_path / name)
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert not (tmp_path / "clean.csv").exists()


def test_the_price_of_leaks_among_many_pictures_is_measured_in_little_memory() -> None:
    features, targets = two_clouds(8000)
    tested = np.arange(8000) < 4000
    units = np.arange(8000)
    units[7999] = 0
    tracemalloc.start()
    try:
        assert judge.measure_leakage(features, targets, 2, units, tested, np.arange(8000) == 7999) is not None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4000 * 4000 * 4 / 2  # not the cosines of all with all


def test_a_broken_file_that_vanishes_while_the_doctor_looks_is_no_finding(
    tmp_path: Path, make_picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("dots", "stripes"):
        for seed in range(4):
            make_picture(tmp_path / "data" / kind / f"{seed}.jpg", kind, seed=seed)
    broken = tmp_path / "data" / "dots" / "broken.jpg"
    broken.write_bytes(b"no picture")

    def vanish(*arguments: Any, **options: Any) -> Dataset:
        broken.unlink()
        return read_dataset(*arguments, **options)

    monkeypatch.setitem(examine.__globals__, "read_dataset", vanish)
    assert examine(tmp_path / "data", backbone=None)[0].findings["unreadable"] == ()


def test_a_manifest_is_written_whole_or_not_at_all(
    messy: Path, examined: tuple[Checkup, Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, file: IO[str]) -> None:
            self._file = file

        def writerow(self, row: object) -> None:
            self._file.write("path,label\n")

        def writerows(self, rows: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.learn.doctor.manifest.csv.writer", Full)
    with pytest.raises(SettingError, match="No space left"):
        write_clean_manifest(messy, examined, ("unreadable",), tmp_path / "clean.csv")
    assert list(tmp_path.iterdir()) == []


def test_all_names_every_kind() -> None:
    assert check_kinds(["all"]) == tuple(KINDS)
    assert check_kinds(["labels", "labels"]) == ("labels",)
    assert set(KINDS) - set(check_kinds(["labels", "all"], quick=True)) == {"labels", "outliers"}
    with pytest.raises(SettingError, match="labels: this was not looked for"):
        check_kinds(["labels", "blurry"], quick=True)


def test_what_costs_nothing_is_told_from_judgements_and_what_is_harmless_from_both() -> None:
    certain, judged = sort_kinds(["leaks", "labels", "duplicates", "odd", "tiny"])
    assert (certain, judged) == (("leaks", "duplicates"), ("labels", "tiny"))


def test_the_checkup_as_json_keeps_the_keys_that_check_always_had() -> None:
    report = {"data": "x", "counts": {}, "classes": {}, "set_aside": [], "skipped": {}, "kept_together": {}}
    found = Checkup("x", 4, {}, report, {"labels": ()}, Balance("a", 3, "b", 1, 0.75), accuracy=Figure(0.5, 0.1, 0.9))
    values = found.to_json()
    assert report.items() <= values.items()
    assert values["balance"]["ratio"] == 3
    assert values["cross_validated_accuracy"] == {"value": 0.5, "low": 0.1, "high": 0.9}
