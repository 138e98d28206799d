"""Reading and sharing out pictures with several labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from headstart.cli import app
from headstart.core.errors import DataError, SettingError
from headstart.learn.audit import audit
from headstart.learn.dataset import read_dataset
from headstart.learn.doctor import examine, write_clean_manifest
from headstart.learn.heads import HEADS, LinearHead, MLPHead, make_head
from headstart.learn.heads.folds import deal_folds
from headstart.learn.prepare import prepare
from headstart.learn.several import SeveralLabels, as_matrix
from headstart.learn.split import cross_validation_folds, split
from headstart.learn.stratify import share_out

SEVERAL = SeveralLabels()


@pytest.fixture
def table(tmp_path: Path, make_picture) -> pd.DataFrame:
    paths = [str(make_picture(tmp_path / f"{i}.png", seed=i)) for i in range(6)]
    return pd.DataFrame({"path": paths, "label": ["a;b", "b", "", "a; c", "c;b;a", "c"]})


MATRIX = [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 0, 1]]


def test_every_way_of_writing_labels_reads_the_same(table: pd.DataFrame, tmp_path: Path) -> None:
    paths, flags = list(table["path"]), pd.DataFrame(MATRIX, columns=["label:a", "label:b", "label:c"])
    lists = [[name for name, there in zip("abc", row, strict=True) if there] for row in MATRIX]
    table.to_csv(tmp_path / "names.csv", index=False)
    pd.concat([table[["path"]], flags], axis=1).to_csv(tmp_path / "flags.csv", index=False)
    pd.concat([table[["path"]], flags.astype(bool)], axis=1).to_csv(tmp_path / "booleans.csv", index=False)
    pd.concat([table[["path"]], flags], axis=1).to_parquet(tmp_path / "flags.parquet")
    named = pd.concat([table[["path"]], flags.set_axis(["a", "b", "c"], axis=1)], axis=1)
    by_space = table.assign(label=table["label"].str.replace("; ?", " ", regex=True))
    read = [
        read_dataset(table, several=SEVERAL),
        read_dataset(table.assign(label=lists), several=SEVERAL),
        *(read_dataset(tmp_path / name, several=SEVERAL) for name in ("names.csv", "flags.csv", "booleans.csv")),
        read_dataset(tmp_path / "flags.parquet", several=SEVERAL),
        read_dataset(named, several=SeveralLabels(columns=("a", "b", "c"))),
        read_dataset(by_space, several=SeveralLabels(separator=" ")),
        read_dataset(paths, lists, several=SEVERAL),
        read_dataset(paths, flags, several=SEVERAL),
    ]
    for dataset in read:
        assert dataset.classes == ("a", "b", "c")
        assert dataset.targets.dtype == bool
        assert dataset.targets.astype(int).tolist() == MATRIX
        assert (dataset.label(3), dataset.labels(2)) == ("a;c", ())
    assert read_dataset(paths, np.array(MATRIX), several=SEVERAL).classes == ("0", "1", "2")


def test_other_columns_stay_and_labels_do_not(table: pd.DataFrame) -> None:
    flags = pd.DataFrame(MATRIX, columns=["label:a", "label:b", "label:c"])
    whole = pd.concat([table[["path"]], flags, pd.Series(list("xyxyxy"), name="camera")], axis=1)
    assert list(read_dataset(whole, several=SEVERAL).columns) == ["camera"]


def test_a_clean_manifest_has_no_label_that_was_not_chosen(table: pd.DataFrame, tmp_path: Path) -> None:
    flags = pd.DataFrame(MATRIX, columns=["label:a", "label:b", " Label:c"])
    whole = pd.concat([table[["path"]], flags, pd.Series(list("xyxyxy"), name="camera")], axis=1)
    chosen = SeveralLabels(columns=("a", "b"))
    found = examine(whole, several=chosen, backbone=None)
    write_clean_manifest(whole, found, (), tmp_path / "clean.csv", chosen)
    assert list(pd.read_csv(tmp_path / "clean.csv")) == ["path", "label:a", "label:b", "camera"]
    assert read_dataset(tmp_path / "clean.csv", several=SEVERAL).classes == ("a", "b")


@pytest.mark.parametrize("option", ["--labels=a,b", "--label-separator= "])
def test_fit_and_check_refuse_options_of_several_labels_without_the_output(tmp_path: Path, option: str) -> None:
    pictures = str(tmp_path)
    for verb in ("fit", "check"):
        error = CliRunner().invoke(app, [verb, pictures, option]).exception
        assert isinstance(error, SettingError)
        assert "is given, and output is 'softmax': choose output 'multilabel'." in str(error)


def test_all_that_is_wrong_is_told(table: pd.DataFrame, tmp_path: Path) -> None:
    flags = pd.DataFrame(MATRIX, columns=["label:a", "label:b", "label:c"])
    cases = {
        "neither 0 nor 1.*row 2": (pd.concat([table[["path"]], flags.replace({"label:b": {1: 2}})], axis=1), SEVERAL),
        "a column label too": (pd.concat([table, flags], axis=1), SEVERAL),
        "no column is called 'z'": (table, SeveralLabels(columns=("z",))),
        "labels that every picture has: b": (table.assign(label=["b", "b;a", "b;a", "b", "b", "b"]), SEVERAL),
        "choose output multilabel": (pd.concat([table[["path"]], flags], axis=1), None),
        "fewer than 2 pictures: x": (table.assign(label=["x", "a", "a", "", "", ""]), SEVERAL),
    }
    for words, (data, several) in cases.items():
        with pytest.raises(DataError, match=f"(?s){words}"):
            read_dataset(data, several=several)
    with pytest.raises(DataError, match="a folder gives each picture one class"):
        read_dataset(tmp_path, several=SEVERAL)
    with pytest.raises(SettingError, match="label_separator"):
        SeveralLabels(separator="")


def test_a_column_of_zeros_is_a_label_without_a_picture(table: pd.DataFrame) -> None:
    flags = pd.DataFrame(MATRIX, columns=["label:a", "label:b", "label:c"]).assign(**{"label:d": 0})
    with pytest.raises(DataError, match=r"fewer than 2 pictures: d \(0\)"):
        read_dataset(pd.concat([table[["path"]], flags], axis=1), several=SEVERAL)


def test_columns_of_labels_keep_their_order(table: pd.DataFrame, tmp_path: Path) -> None:
    paths = list(table["path"])
    twelve = np.add.outer(np.arange(6), np.arange(12)) % 3 == 0
    by_array = read_dataset(paths, twelve, several=SEVERAL)
    assert by_array.classes == tuple(map(str, range(12)))
    assert (by_array.targets == twelve).all()
    pets = pd.DataFrame({"dog": [1, 0, 1, 0, 1, 0], "cat": [1, 1, 0, 0, 1, 1]})
    named = pd.concat([table[["path"]], pets.add_prefix("label:")], axis=1)
    named.to_csv(tmp_path / "pets.csv", index=False)
    for data, labels in ((paths, pets), (named, None), (tmp_path / "pets.csv", None)):
        dataset = read_dataset(data, labels, several=SEVERAL)
        assert dataset.classes == ("dog", "cat")
        assert (dataset.targets == pets.to_numpy()).all()
    assert read_dataset(named, several=SeveralLabels(columns=("cat", "dog"))).classes == ("cat", "dog")


def test_names_in_lists_have_the_order_of_scikit_learn(table: pd.DataFrame) -> None:
    from sklearn.preprocessing import MultiLabelBinarizer

    numbers = [[0, 10], [2, 11], [10], [2, 0], [11, 0], []]
    for lists in (
        numbers,
        [[str(one) for one in row] for row in numbers],
        [[one / 4 for one in row] for row in numbers],
    ):
        known = MultiLabelBinarizer()
        expected = known.fit_transform(lists)
        for data, labels in ((list(table["path"]), lists), (table.assign(label=lists), None)):
            dataset = read_dataset(data, labels, several=SEVERAL)
            assert [float(name) for name in dataset.classes] == [float(one) for one in known.classes_]
            assert (dataset.targets == expected).all()


def test_two_columns_of_one_label_are_refused(table: pd.DataFrame) -> None:
    flags = pd.DataFrame(MATRIX, columns=["a", "b", "a"])
    with pytest.raises(DataError, match=r"more than one column is the label a\. Rename or remove all but one"):
        read_dataset(list(table["path"]), flags, several=SEVERAL)
    with pytest.raises(DataError, match=r"more than one column is the label a\."):
        read_dataset(pd.concat([table[["path"]], flags.add_prefix("label:")], axis=1), several=SEVERAL)


def test_the_order_of_columns_changes_neither_split_nor_folds_nor_fingerprint(shapes: Path) -> None:
    frame = pd.read_csv(shapes / "columns.csv")
    frame["path"] = [str(shapes / name) for name in frame["path"]]
    turned = frame[["path", "label:triangle", "label:circle", "label:square"]]
    one, two = (prepare(data, several=SEVERAL) for data in (frame, turned))
    assert two.dataset.classes == ("triangle", "circle", "square")
    assert one.fingerprint == two.fingerprint
    for side in ("train", "validation", "test"):
        assert np.array_equal(getattr(one.split, side), getattr(two.split, side))
    folds = [
        cross_validation_folds(made.dataset, made.records, np.arange(len(frame)), folds=4, repeats=1, seed=0)
        for made in (one, two)
    ]
    for (_, a), (_, b) in zip(*folds, strict=True):
        assert np.array_equal(a, b)


def test_labels_become_a_matrix_in_the_order_of_the_classes() -> None:
    assert as_matrix([["b"], (), "a;b"], ("a", "b")).tolist() == [[False, True], [False, False], [True, True]]
    assert as_matrix(["b, a", "b"], ("b", "a"), SeveralLabels(separator=",")).tolist() == [[True, True], [True, False]]
    assert as_matrix([[0, 10], [2.0]], ("0", "2", "10")).tolist() == [[True, False, True], [False, True, False]]
    with pytest.raises(SettingError, match="unknown label 'z'"):
        as_matrix([["z"]], ("a", "b"))
    with pytest.raises(SettingError, match="unknown label 'a,b'"):
        as_matrix(["a,b"], ("a", "b"))
    with pytest.raises(SettingError, match="3 columns"):
        as_matrix(np.zeros((1, 3)), ("a", "b"))


def test_a_table_becomes_a_matrix_by_the_names_of_its_columns_and_an_array_by_their_order() -> None:
    pets = pd.DataFrame({"dog": [1, 0, 1], "label:cat": [True, True, False]})
    assert as_matrix(pets, ("cat", "dog")).tolist() == [[True, True], [True, False], [False, True]]
    assert as_matrix(pets.to_numpy(), ("dog", "cat")).tolist() == [[True, True], [False, True], [True, False]]
    assert as_matrix(pd.DataFrame([["0", "1"]]), ("1", "0")).tolist() == [[True, False]]
    for columns, words in (
        (["dog", "cow"], "have a column 'cow', which is no class: give one column for each of 'cat', 'dog'"),
        (["dog"], "have no columns 'cat'"),
        (["dog", "dog"], "have 2 columns 'dog'"),
    ):
        with pytest.raises(SettingError, match=words):
            as_matrix(pd.DataFrame(np.zeros((1, len(columns)), int), columns=columns), ("cat", "dog"))
    with pytest.raises(SettingError, match=r"a label in row 2 is 0\.5: give 1 where the picture has it, else 0"):
        as_matrix(np.array([[1, 0], [0, 0.5]]), ("cat", "dog"))


def unbalanced(n: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 5)) < [0.5, 0.2, 0.1, 0.05, 0.02]


def test_sharing_out_gives_every_part_its_share_of_every_label() -> None:
    labels = unbalanced()
    parts = share_out(labels, np.arange(400), np.random.default_rng(1).permutation(400), (0.65, 0.15, 0.2))
    shares = np.array([labels[parts == part].sum(axis=0) for part in range(3)]) / labels.sum(axis=0)
    by_chance = np.random.default_rng(2).choice(3, 400, p=(0.65, 0.15, 0.2))
    random = np.array([labels[by_chance == part].sum(axis=0) for part in range(3)]) / labels.sum(axis=0)
    wanted = np.array([[0.65], [0.15], [0.2]])
    assert np.bincount(parts).tolist() == pytest.approx([260, 60, 80], abs=4)
    # Off by less than one picture of each label, of which there are 5 to 200; chance is far off the rare ones.
    assert (np.abs(shares - wanted) * labels.sum(axis=0) <= 1.01).all()
    assert np.abs(random - wanted).max() > 2 * np.abs(shares - wanted).max()


def test_sharing_out_never_divides_a_unit_and_uses_no_part_without_a_share() -> None:
    labels, units = unbalanced(), np.arange(400) // 4
    parts = share_out(labels, units, units, (0.8, 0.2, 0.0))
    assert all(len(set(parts[units == unit])) == 1 for unit in range(100))
    assert set(parts.tolist()) == {0, 1}
    assert np.array_equal(parts, share_out(labels, units, units, (0.8, 0.2, 0.0)))


def test_the_split_depends_on_contents_and_seed_and_keeps_groups_whole(shapes: Path) -> None:
    frame = pd.read_csv(shapes / "lists.csv", keep_default_na=False)
    frame["path"] = [str(shapes / name) for name in frame["path"]]
    frame["group"] = [f"g{i // 2}" for i in range(len(frame))]
    shuffled = frame.sample(frac=1, random_state=0)
    found = {}
    for name, given in (("as it is", frame), ("shuffled", shuffled)):
        dataset = read_dataset(given, several=SEVERAL)
        records = audit(dataset.paths)
        parts = split(dataset, records, seed=3)
        found[name] = {dataset.paths[row] for row in parts.test}
        for rows in (parts.validation, parts.test):
            assert all(dataset.pictures_by_class(rows) >= 4)
        assert not {dataset.groups[row] for row in parts.test} & {dataset.groups[row] for row in parts.train}
        assert split(dataset, records, seed=4).test.tolist() != parts.test.tolist()
        folds = cross_validation_folds(dataset, records, np.arange(len(dataset)), folds=5, repeats=2, seed=0)
        for repeat in (folds[:5], folds[5:]):
            assert sorted(np.concatenate([outside for _, outside in repeat]).tolist()) == list(range(len(dataset)))
    assert found["as it is"] == found["shuffled"]


def test_folds_are_stratified_and_never_hold_out_the_only_group_of_a_label() -> None:
    labels, groups = unbalanced(200), np.arange(200) // 2
    labels[:, 4] = False
    labels[6:8, 4] = True
    held_out = deal_folds(labels, groups, 5, 0)
    assert (held_out[6:8] == -1).all()
    counts = np.array([labels[held_out == fold].sum(axis=0) for fold in range(5)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 3).all()


def features(n: int = 160, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, x @ rng.normal(size=(d, 3)) + rng.normal(0, 1.5, (n, 3)) > [0, 1, 2]


@pytest.mark.parametrize("C", [0.1, 10.0])
def test_the_linear_head_is_one_logistic_regression_a_label(C: float) -> None:
    import torch
    from sklearn.linear_model import LogisticRegression

    x, labels = features()
    found = LinearHead(C=C).fit(x, labels, 3).module
    mean, scale = x.mean(0), np.sqrt(x.var(0).sum())
    with torch.inference_mode():
        said = torch.sigmoid(found(torch.from_numpy(x))).numpy()
    for label in range(3):
        known = LogisticRegression(C=C, tol=1e-8, max_iter=1000).fit((x - mean) / scale, labels[:, label])
        assert said[:, label] == pytest.approx(known.predict_proba((x - mean) / scale)[:, 1], abs=2e-3)


def test_the_strength_is_chosen_by_the_held_out_loss_of_all_labels() -> None:
    x, labels = features()
    chosen = LinearHead().fit(x, labels, 3).chosen
    losses = {one["C"]: one["log_loss"] for one in chosen["tried"]}
    assert min(losses, key=losses.__getitem__) == chosen["C"]
    prior = np.clip(labels.mean(0), 1e-6, 1)
    guessing = -(prior * np.log(prior) + (1 - prior) * np.log(1 - prior)).mean()
    assert chosen["cv_log_loss"] < 0.8 * guessing


def test_the_mlp_learns_several_labels_and_follows_validation() -> None:
    x, labels = features(320)
    fitted = MLPHead(epochs=30, hidden=(32,)).fit(x[:240], labels[:240], 3, validation=(x[240:], labels[240:]))
    assert fitted.history[-1]["val_loss"] < fitted.history[0]["val_loss"]
    assert fitted.history[-1]["val_accuracy"] > np.maximum(labels.mean(0), 1 - labels.mean(0)).mean() + 0.05


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_says_what_it_cannot_do(name: str) -> None:
    x, labels = features()
    with pytest.raises(SettingError, match="class_weight" if name != "prototype" else "choose linear or mlp"):
        make_head(name).fit(x, labels, 3, class_weight="balanced")
    if name != "prototype":
        with pytest.raises(SettingError, match="shape"):
            make_head(name).fit(x, labels[:, :2], 3)
