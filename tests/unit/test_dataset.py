from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headstart.core.errors import DataError, SettingError
from headstart.learn.dataset import Dataset, read_dataset, targets_for

# Reading looks at names only, so a picture may be any bytes here.


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return root


def labels(dataset: Dataset) -> list[str]:
    return [dataset.classes[target] for target in dataset.targets]


def names(dataset: Dataset, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in dataset.paths]


# Class folders


def test_class_folders_give_sorted_classes_and_files_whatever_order_they_were_made_in(tmp_path: Path) -> None:
    touch(tmp_path, "dog/2.png", "cat/b.jpg", "dog/1.JPG", "cat/a.webp")
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert names(dataset, tmp_path) == ["cat/a.webp", "cat/b.jpg", "dog/1.JPG", "dog/2.png"]
    assert dataset.targets.tolist() == [0, 0, 1, 1]
    assert dataset.targets.dtype == np.int64
    assert (dataset.splits, dataset.groups, dataset.columns, dataset.warnings) == (None, None, None, ())
    assert dataset.source == str(tmp_path)


def test_paths_are_absolute_for_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "pets", "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    monkeypatch.chdir(tmp_path)
    assert read_dataset("pets").paths[0] == str(tmp_path / "pets/a/1.jpg")


def test_pictures_in_nested_folders_belong_to_the_class_above(tmp_path: Path) -> None:
    touch(tmp_path, "a/2019/may/1.jpg", "a/2.jpg", "b/1.jpg", "b/x/2.jpg")
    dataset = read_dataset(tmp_path)
    assert list(zip(names(dataset, tmp_path), labels(dataset), strict=True)) == [
        ("a/2.jpg", "a"),
        ("a/2019/may/1.jpg", "a"),
        ("b/1.jpg", "b"),
        ("b/x/2.jpg", "b"),
    ]


def test_hidden_and_other_files_are_skipped_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    touch(tmp_path, "a/.DS_Store", "a/.hidden.jpg", ".git/x.jpg", "__MACOSX/a/._1.jpg", "a/notes.txt", "README.md")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 4
    assert dataset.classes == ("a", "b")
    assert dataset.skipped == {"hidden": 4, "not pictures": 2}


def test_a_file_without_suffix_is_a_picture_if_its_header_says_so(tmp_path: Path, make_picture) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", "a/LICENSE")
    make_picture(tmp_path / "a" / "x.png").rename(tmp_path / "a" / "2")
    dataset = read_dataset(tmp_path)
    assert names(dataset, tmp_path) == ["a/1.jpg", "a/2", "b/1.jpg", "b/2.jpg"]
    assert dataset.skipped == {"not pictures": 1}


def test_a_pipe_without_suffix_is_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    os.mkfifo(tmp_path / "a" / "pipe")
    assert read_dataset(tmp_path).skipped == {"not pictures": 1}


def test_pictures_outside_class_folders_are_skipped_and_told(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "stray.jpg")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 4
    assert dataset.skipped == {"outside class folders": 1}
    assert dataset.warnings == ("1 picture outside any class folder, so without a label: stray.jpg. Skipped.",)


def test_a_flat_folder_of_pictures_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.jpg" for i in range(9)))
    with pytest.raises(
        DataError, match=r"9 pictures outside any class folder.*0\.jpg, 1\.jpg, 2\.jpg and 6 more\. Exp"
    ):
        read_dataset(tmp_path)


def test_a_name_that_is_not_utf8_is_skipped_with_a_printable_line(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    odd_file = os.fsencode(tmp_path) + b"/a/caf\xe9.jpg"
    odd_folder = os.fsencode(tmp_path) + b"/\xff"
    try:
        os.mkdir(odd_folder)
        Path(os.fsdecode(odd_file)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 4
    assert dataset.skipped == {"names not UTF-8": 2}
    assert dataset.warnings == ("2 names not in UTF-8, skipped; rename to use: \\xff and a/caf\\xe9.jpg.",)


@pytest.mark.parametrize("target", [".", "..", "deep", "../../.."])
def test_a_loop_of_folders_ends_and_is_told(tmp_path: Path, target: str) -> None:
    root = touch(tmp_path / "root", "a/deep/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    (root / "a" / "deep" / "again").symlink_to(root / "a" / target)
    if target == "../../..":  # above the data: no loop yet, but it comes back to the root
        (root / "a" / "deep" / "again").unlink()
        (root / "a" / "deep" / "again").symlink_to(tmp_path)
    dataset = read_dataset(root)
    assert names(dataset, root)[:2] == ["a/2.jpg", "a/deep/1.jpg"]
    assert len(dataset) == 4
    assert len(dataset.warnings) == 1
    assert "to a folder that was read already, not followed: a/deep/again" in dataset.warnings[0]


def test_a_class_folder_that_links_back_to_the_top_is_a_loop_and_no_empty_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert "not followed: loop" in dataset.warnings[0]


def test_linked_class_folders_and_pictures_are_followed(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "1.jpg", "2.jpg", "3.jpg")
    root = touch(tmp_path / "root", "a/1.jpg", "a/2.jpg")
    (root / "b").symlink_to(elsewhere)
    (root / "a" / "3.jpg").symlink_to(elsewhere / "3.jpg")
    assert names(read_dataset(root), root) == ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/closed/3.jpg")
    scan = os.scandir

    def refuse(path: str):  # chmod would not keep root out
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be opened.*b/closed \(Permission denied\)"):
        read_dataset(tmp_path)


def test_accents_composed_or_not_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    touch(tmp_path, f"train/{composed}/1.jpg", f"val/{decomposed}/2.jpg", "train/b/1.jpg", "val/b/2.jpg")
    assert read_dataset(tmp_path).classes == ("b", composed)


# Splits in folders


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val"), ["train", "validation"]),
        (("Train", "TEST"), ["train", "test"]),
        (("training", "Valid", "testing"), ["train", "validation", "test"]),
        (("train", "validation"), ["train", "validation"]),
        (("train",), ["train"]),
    ],
)
def test_split_folders_are_known_by_name(tmp_path: Path, folders: tuple[str, ...], expected: list[str]) -> None:
    for folder in folders:
        touch(tmp_path, f"{folder}/a/1.jpg", f"{folder}/a/2.jpg", f"{folder}/b/1.jpg", f"{folder}/b/2.jpg")
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert dataset.splits is not None
    assert dataset.splits.tolist() == [name for name in expected for _ in range(4)]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "bus/1.jpg", "bus/2.jpg")
    touch(tmp_path, "train/steam/3.jpg")
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("bus", "train")
    assert dataset.splits is None


def test_folders_beside_split_folders_are_skipped_and_told(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        touch(tmp_path, f"{folder}/a/1.jpg", f"{folder}/b/1.jpg")
    touch(tmp_path, "docs/picture.jpg", "val/stray.jpg")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 4
    assert dataset.skipped == {"beside split folders": 1, "outside class folders": 1}
    assert dataset.warnings == (
        "beside the split folders lie others, which are skipped: docs.",
        "1 picture outside any class folder, so without a label: val/stray.jpg. Skipped.",
    )


def test_train_and_test_without_class_folders_are_not_taken_for_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "test/1.jpg", "test/2.jpg")
    with pytest.raises(DataError, match="4 pictures outside any class folder"):
        read_dataset(tmp_path)


def test_a_class_only_in_test_is_an_error_and_one_only_in_train_a_warning(tmp_path: Path) -> None:
    for split in ("train", "test"):
        touch(tmp_path, f"{split}/a/1.jpg", f"{split}/b/1.jpg")
    touch(tmp_path, "train/c/1.jpg")
    assert read_dataset(tmp_path).warnings == ("classes in train but not in test, so not judged there: c.",)
    touch(tmp_path, "test/d/1.jpg")
    with pytest.raises(DataError) as error:
        read_dataset(tmp_path)
    assert "- classes in test but not in train: d. Add them to train or remove them." in str(error.value).splitlines()
    assert "- note: classes in train but not in test, so not judged there: c." in str(error.value).splitlines()


def test_a_source_without_train_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "val/a/1.jpg", "val/b/1.jpg", "test/a/1.jpg", "test/b/1.jpg")
    with pytest.raises(DataError, match="no picture is in the split train"):
        read_dataset(tmp_path)


# What cannot be learned from


def test_all_problems_are_told_together_a_line_each(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "test/a/1.jpg", "test/b/1.jpg", "train/stray.jpg")
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(DataError) as error:
        read_dataset(tmp_path)
    assert str(error.value).splitlines() == [
        f"{tmp_path}: 2 problems",
        "- class folders without a picture: train/empty. Add pictures or remove them.",
        "- classes in test but not in train: b. Add them to train or remove them.",
        "- note: 1 picture outside any class folder, so without a label: train/stray.jpg. Skipped.",
    ]


def test_too_few_pictures_and_one_class_are_refused_but_not_for_evaluation(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    with pytest.raises(DataError) as error:
        read_dataset(tmp_path)
    assert str(error.value).splitlines() == [
        f"{tmp_path}: 2 problems",
        "- 1 class (a) where at least two are needed.",
        "- classes with fewer than 2 pictures: a (1). Add pictures or remove them.",
    ]
    assert len(read_dataset(tmp_path, for_training=False)) == 1


def test_one_folder_around_the_class_folders_is_pointed_out(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/1.jpg", "images/a/2.jpg", "images/b/1.jpg")
    with pytest.raises(DataError, match=rf"1 class \(images\)(.|\n)*a and b in it.*give {tmp_path}/images\."):
        read_dataset(tmp_path)


def test_problems_can_be_collected_for_later(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg")
    (tmp_path / "c").mkdir()
    dataset = read_dataset(tmp_path, collect=True)
    assert dataset.problems == ("class folders without a picture: c. Add pictures or remove them.",)
    with pytest.raises(DataError, match="no such folder"):
        read_dataset(tmp_path / "absent", collect=True)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (None, "there is no such folder or file. Check the path."),
        ("picture.jpg", "this is one picture. Expected a folder with one folder for each class"),
        ("notes.txt", "this is a file of an unknown kind. Expected a folder"),
    ],
)
def test_a_path_that_is_no_data_says_what_was_expected(tmp_path: Path, make: str | None, text: str) -> None:
    path = tmp_path / (make or "absent")
    if make:
        touch(tmp_path, make)
    with pytest.raises(DataError) as error:
        read_dataset(path)
    assert str(error.value).startswith(f"{path}: {text}")
    assert "\n" not in str(error.value)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there are no folders in it\. Expected one for each class"):
        read_dataset(tmp_path)


def test_data_of_a_wrong_type_is_a_setting_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="data is of type int"):
        read_dataset(3)
    with pytest.raises(SettingError, match="labels is given"):
        read_dataset(tmp_path, ["a"])


# Manifests


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return touch(tmp_path, "img/1.jpg", "img/2.jpg", "img/3.jpg", "img/4.jpg")


def test_a_csv_manifest_is_read_relative_to_itself(pictures: Path) -> None:
    text = "path,label,split,group,age\nimg/1.jpg,cat,train,g1,3\nimg/2.jpg,dog,Train,,4\n"
    text += f"./img/3.jpg,cat,val,g1,\n{pictures}/img/4.jpg,dog,test,7,5\n"
    dataset = read_dataset(write(pictures / "all.csv", text))
    assert names(dataset, pictures) == ["img/1.jpg", "img/2.jpg", "img/3.jpg", "img/4.jpg"]
    assert labels(dataset) == ["cat", "dog", "cat", "dog"]
    assert dataset.splits is not None
    assert dataset.splits.tolist() == ["train", "train", "validation", "test"]
    assert dataset.groups is not None
    assert dataset.groups.tolist() == ["g1", None, "g1", "7"]
    assert dataset.columns.age.tolist()[:2] == [3, 4]
    assert np.isnan(dataset.columns.age[2])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolon.csv", "path;label\nimg/1.jpg;a\nimg/2.jpg;a\nimg/3.jpg;b\nimg/4.jpg;b\n"),
        ("tab.tsv", "path\tlabel\nimg/1.jpg\ta\nimg/2.jpg\ta\nimg/3.jpg\tb\nimg/4.jpg\tb\n"),
        ("mark.csv", "\ufeffPath, Label\nimg/1.jpg, a\nimg/2.jpg,a \nimg/3.jpg,b\nimg/4.jpg,b"),
        ("quoted.csv", '"path","label"\r\n"img/1.jpg","a"\r\nimg/2.jpg,a\r\nimg/3.jpg,b\r\nimg/4.jpg,b\r\n'),
    ],
)
def test_csv_as_spreadsheets_write_it(pictures: Path, name: str, text: str) -> None:
    dataset = read_dataset(write(pictures / name, text))
    assert labels(dataset) == ["a", "a", "b", "b"]


def test_labels_that_look_like_numbers_or_nothing_stay_names(pictures: Path) -> None:
    text = "path,label\nimg/1.jpg,007\nimg/2.jpg,007\nimg/3.jpg,None\nimg/4.jpg,NA\n"
    dataset = read_dataset(write(pictures / "m.csv", text), for_training=False)
    assert dataset.classes == ("007", "NA", "None")


def test_a_parquet_manifest_is_read(pictures: Path) -> None:
    frame = pd.DataFrame({"path": [f"img/{i}.jpg" for i in (1, 2, 3, 4)], "label": [0, 0, 10, 10], "x": [1, 2, 3, 4]})
    frame.to_parquet(pictures / "m.parquet")
    dataset = read_dataset(pictures / "m.parquet")
    assert dataset.classes == ("0", "10")
    assert dataset.columns.x.tolist() == [1, 2, 3, 4]


def test_a_dataframe_is_read_relative_to_the_working_directory(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    frame = pd.DataFrame(
        {"label": pd.Categorical(["a", "b", "a", "b"]), "path": [f"img/{i}.jpg" for i in (4, 3, 2, 1)]}
    )
    frame.index = [7, 7, 7, 7]
    dataset = read_dataset(frame)
    assert names(dataset, pictures) == ["img/4.jpg", "img/3.jpg", "img/2.jpg", "img/1.jpg"]
    assert dataset.source == "the DataFrame"


def test_two_sequences_are_read(pictures: Path) -> None:
    paths = sorted((pictures / "img").iterdir())
    for given in (paths, [str(path) for path in paths], np.array([str(path) for path in paths]), pd.Series(paths)):
        assert labels(read_dataset(given, np.array([1, 1, 2, 2]))) == ["1", "1", "2", "2"]


def test_every_fault_of_a_manifest_is_told_with_rows(pictures: Path) -> None:
    text = "path,label,split\nimg/1.jpg,a,train\nimg/absent.jpg,a,train\nimg/2.jpg,,train\n,b,train\n"
    text += "img/3.jpg,b,trian\nimg/4.jpg,b,\nimg/1.jpg,b,train\nimg/1.jpg,a,train\nimg/gone.jpg,a,test\n"
    with pytest.raises(DataError) as error:
        read_dataset(write(pictures / "m.csv", text))
    assert str(error.value).splitlines() == [
        f"{pictures}/m.csv: 8 problems",
        "- there is no such file: row 2 img/absent.jpg and row 9 img/gone.jpg (2 rows).",
        "- the label is missing or no single name: row 3 img/2.jpg (1 row).",
        "- the path is missing: row 4 (1 row).",
        "- the split is 'trian', expected train, validation or test: row 5 img/3.jpg (1 row).",
        "- the split is missing, while other rows have one: row 6 img/4.jpg (1 row).",
        "- listed again with another label or split: row 7 img/1.jpg (1 row).",
        "- 1 class (a) where at least two are needed.",
        "- classes with fewer than 2 pictures: a (1). Add pictures or remove them.",
        "- note: 1 row listed twice, used once: row 8 img/1.jpg.",
    ]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.csv", b"filename,class\nimg/1.jpg,a\n", "no column 'path' and no column 'label' among filename and class."),
        ("m.csv", b"path,label,Label\nimg/1.jpg,a,b\n", "more than one column is called label"),
        ("m.csv", b"", "it cannot be read as a table"),
        ("m.csv", b"path,label\n", "it lists no pictures"),
        ("m.csv", b"path,label\nimg/1.jpg,a,b,c\n", "it cannot be read as a table"),
        ("m.csv", b"path,label\ncaf\xe9.jpg,a\n", "it is not UTF-8 text"),
        ("m.parquet", b"PAR1 not really", "it cannot be read as a table"),
    ],
)
def test_a_manifest_that_is_no_table_is_refused_in_one_line(
    pictures: Path, name: str, content: bytes, text: str
) -> None:
    (pictures / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_dataset(pictures / name)
    assert str(error.value).startswith(f"{pictures / name}: {text}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, "", "  ", ["a", "b"], np.array(["a"])])
def test_a_missing_label_in_a_dataframe_is_told(pictures: Path, missing: object) -> None:
    column = np.empty(4, object)
    column[:] = ["a", "a", "b", "b"]
    column[1] = missing
    paths = [str(pictures / f"img/{i}.jpg") for i in (1, 2, 3, 4)]
    with pytest.raises(DataError, match="the label is missing or no single name: row 2"):
        read_dataset(pd.DataFrame({"path": paths, "label": column}))


def test_numbers_made_floats_by_a_missing_neighbour_are_whole_again(pictures: Path) -> None:
    paths = [str(pictures / f"img/{i}.jpg") for i in (1, 2, 3, 4)]
    frame = pd.DataFrame({"path": paths, "label": [1.0, 1.0, 2.0, 2.5], "group": [1.0, 2.0, None, 1.0]})
    dataset = read_dataset(frame, for_training=False)
    assert labels(dataset) == ["1", "1", "2", "2.5"]
    assert dataset.groups is not None
    assert dataset.groups.tolist() == ["1", "2", None, "1"]


@pytest.mark.parametrize(
    "values",
    [
        list(range(12)),
        [float(one) for one in range(12)],
        [one - 6 for one in range(12)],
        [one / 8 for one in range(12)],
        [one % 2 == 0 for one in range(12)],
        [str(one) for one in range(12)],
        [f"{one:03}" for one in range(12)],
    ],
)
def test_classes_have_the_order_of_scikit_learn(tmp_path: Path, values: list[Any]) -> None:
    paths = [str(touch(tmp_path, f"{i:02}.jpg") / f"{i:02}.jpg") for i in range(12)]
    given = [values[i] for i in np.random.default_rng(0).permutation(12)]
    known, places = np.unique(given, return_inverse=True)
    expected = [f"{one:g}" if isinstance(one, float) else str(one) for one in known.tolist()]
    frame = pd.DataFrame({"path": paths, "label": given})
    frame.to_parquet(tmp_path / "labels.parquet")
    sources: list[tuple[Any, Any]] = [(paths, given), (paths, np.array(given)), (paths, pd.Series(given))]
    for data, y in (*sources, (frame, None), (tmp_path / "labels.parquet", None)):
        dataset = read_dataset(data, y, for_training=False)
        assert list(dataset.classes) == expected
        assert dataset.targets.tolist() == places.tolist()


def test_sequences_that_do_not_match_are_refused(pictures: Path) -> None:
    paths = [str(pictures / "img/1.jpg"), str(pictures / "img/2.jpg")]
    with pytest.raises(DataError, match="2 paths and 3 labels: give one label for each path"):
        read_dataset(paths, ["a", "b", "c"])
    with pytest.raises(DataError, match="labels is missing"):
        read_dataset(paths)
    with pytest.raises(DataError, match="element 0 of the paths is of type ndarray"):
        read_dataset([np.zeros((2, 2, 3)), np.zeros((2, 2, 3))], ["a", "b"])
    with pytest.raises(DataError, match="it lists no pictures"):
        read_dataset([], [])


def test_a_path_that_is_not_utf8_in_a_list_is_skipped_and_told(pictures: Path) -> None:
    paths = [*sorted((pictures / "img").iterdir()), b"/data/caf\xe9.jpg"]
    dataset = read_dataset(paths, ["a", "a", "b", "b", "b"])
    assert len(dataset) == 4
    assert dataset.skipped == {"names not UTF-8": 1}
    assert "/data/caf\\xe9.jpg" in dataset.warnings[0]


# Dataset


def test_a_subset_keeps_everything_aligned(pictures: Path) -> None:
    text = "path,label,split,group,n\n" + "".join(
        f"img/{i}.jpg,{'ab'[i % 2]},{split},g{i},{i}\n" for i, split in enumerate(("train", "train", "test", "test"), 1)
    )
    dataset = read_dataset(write(pictures / "m.csv", text))
    for chosen in ([3, 1], np.array([3, 1]), (i for i in (3, 1))):
        part = dataset.subset(chosen)
        assert names(part, pictures) == ["img/4.jpg", "img/2.jpg"]
        assert part.classes == ("a", "b")
        assert labels(part) == ["a", "a"]
        assert part.splits is not None
        assert part.splits.tolist() == ["test", "train"]
        assert part.groups is not None
        assert part.groups.tolist() == ["g4", "g2"]
        assert part.columns.n.tolist() == [4, 2]
    assert names(dataset.subset(dataset.targets == 0), pictures) == ["img/2.jpg", "img/4.jpg"]
    assert len(dataset.subset([])) == 0


def test_targets_are_places_among_the_classes_of_a_model_whatever_their_order_there() -> None:
    dataset = Dataset(("a", "b", "c"), np.array([1, 0, 1]), ("ant", "bee"))
    assert targets_for(dataset, ("wasp", "bee", "ant")).tolist() == [1, 2, 1]
    several = Dataset(("a", "b"), np.array([[True, False], [True, True]]), ("ant", "bee"))
    assert targets_for(several, ("wasp", "bee", "ant")).tolist() == [[False, False, True], [False, True, True]]


def test_a_class_that_a_model_does_not_know_is_named_with_those_that_it_knows() -> None:
    dataset = Dataset(("a", "b"), np.array([0, 1]), ("ant", "fly"), source="insects.csv")
    with pytest.raises(DataError, match=r"^insects.csv has classes that the model does not know: 'fly'.*'ant', 'bee';"):
        targets_for(dataset, ("ant", "bee"))
