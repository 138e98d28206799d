"""Several labels a picture, from the manifest to every answer: real EfficientNet weights on generated shapes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from headstart import ImageClassifier, load
from headstart.cli import main
from headstart.core.errors import SettingError
from headstart.core.progress import Progress
from headstart.core.significance import corrected_t_test
from headstart.learn.compare import compare
from headstart.learn.compare.ground import share_out
from headstart.learn.features.extract import extract
from headstart.learn.heads import make_head
from headstart.learn.methods.frozen import probabilities
from headstart.learn.prepare import prepare
from headstart.learn.several import SeveralLabels
from headstart.learn.split import cross_validation_folds
from headstart.learn.versus import compare_models
from headstart.networks import load_backbone

SETTINGS = {"output": "multilabel", "image_size": 96, "method": "frozen"}


@pytest.fixture(scope="module")
def model(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multi") / "model"
    ImageClassifier(**SETTINGS).fit(shapes / "columns.csv", out=folder)
    return folder


def test_a_fit_learns_the_labels_and_tells_how_well(model: Path) -> None:
    description = json.loads((model / "model.json").read_text())
    figures = description["test"]["figures"]
    prevalence = np.mean([one["support"] for one in description["test"]["per_class"]]) / description["test"]["n"]
    assert figures["mean_average_precision"]["low"] > prevalence + 0.2
    assert figures["exact_match"]["value"] > description["test"]["majority"] + 0.2
    assert description["output"] == "multilabel"
    assert set(description["confidence"]["labels"]["thresholds"]) == {"circle", "square", "triangle"}
    assert "conformal" not in description["confidence"]
    card = (model / "README.md").read_text()
    assert "several, one or none" in card
    assert "| class | pictures | recall | precision | average precision | threshold |" in card


def test_the_reported_figures_are_those_of_the_saved_model(model: Path, shapes: Path) -> None:
    from sklearn.metrics import average_precision_score, f1_score

    predictor, test = load(model), pd.read_csv(model / "predictions.csv", keep_default_na=False)
    table = pd.read_csv(shapes / "columns.csv").set_index("path")
    names = [Path(path).name for path in test["path"]]
    truth = table.loc[names].to_numpy(bool)
    pictures = [shapes / name for name in names]
    said, given = predictor.predict_proba(pictures), predictor.predict(pictures)
    figures = predictor.description["test"]["figures"]
    assert given.dtype == bool
    assert figures["mean_average_precision"]["value"] == pytest.approx(average_precision_score(truth, said), abs=1e-6)
    assert figures["micro_f1"]["value"] == pytest.approx(f1_score(truth, given, average="micro"))
    assert [";".join(labels) for labels in predictor.predict_labels(pictures)] == list(test["predicted"])


def test_the_network_as_a_torch_module_gives_the_same(model: Path, shapes: Path) -> None:
    import torch

    from headstart.core.pictures import load as load_picture
    from headstart.networks.restore import load_network

    predictor, (_, network) = load(model), load_network(model)
    pictures = [shapes / f"{index:03}.png" for index in range(6)]
    images = np.stack([load_picture(str(path), predictor.preprocessing) for path in pictures])
    with torch.inference_mode():
        said = network(torch.from_numpy(images))[0].numpy()
    assert said == pytest.approx(predictor.predict_proba(pictures), abs=1e-4)
    assert np.abs(said.sum(axis=1) - 1).max() > 0.1


def test_python_takes_lists_of_names_and_matrices_alike(model: Path, shapes: Path) -> None:
    lists = pd.read_csv(shapes / "lists.csv", keep_default_na=False)
    paths = [str(shapes / name) for name in lists["path"]]
    names = [text.split(";") if text else [] for text in lists["label"]]
    matrix = pd.read_csv(shapes / "columns.csv").iloc[:, 1:].rename(columns=lambda name: name.removeprefix("label:"))
    by_names, by_matrix = (ImageClassifier(**SETTINGS).fit(paths, y) for y in (names, matrix))
    said = [one.predict_proba(paths[:5]) for one in (by_names, by_matrix)]
    assert np.array_equal(*said)
    assert said[0] == pytest.approx(load(model).predict_proba(paths[:5]), abs=1e-6)
    truth = matrix.to_numpy(bool)
    expected = float((by_names.predict(paths) == truth).all(axis=1).mean())
    assert by_names.score(paths, names) == by_names.score(paths, truth) == expected
    assert by_names.score(shapes / "lists.csv") == expected


def test_what_is_predicted_stands_in_the_columns_that_were_given(shapes: Path) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    matrix = pd.read_csv(shapes / "columns.csv")
    paths = [str(shapes / name) for name in matrix["path"]]
    twelve = matrix[["label:square", "label:triangle", "label:circle"] * 4].to_numpy()
    by_array = ImageClassifier(**SETTINGS).fit(paths, twelve)
    given = by_array.predict(paths)
    assert f1_score(twelve, given, average=None).min() > 0.8
    assert by_array.score(paths, twelve) == accuracy_score(twelve, given)
    named = matrix[["label:square", "label:triangle", "label:circle"]]
    by_table = ImageClassifier(label_separator=",", **SETTINGS).fit(paths, named)
    assert by_table.classes_.tolist() == ["square", "triangle", "circle"]
    given = by_table.predict(paths)
    expected = accuracy_score(named.to_numpy(), given)
    texts = [",".join(name.removeprefix("label:") for name in named if row[name]) for _, row in named.iterrows()]
    assert f1_score(named.to_numpy(), given, average=None).min() > 0.8
    assert by_table.score(paths, named[["label:circle", "label:square", "label:triangle"]]) == expected
    assert by_table.score(paths, named.to_numpy()) == by_table.score(paths, texts) == expected
    assert load(by_table.predictor_.network_file.parent).classes == ("square", "triangle", "circle")
    with pytest.raises(SettingError, match="measure it with `headstart evaluate`"):
        by_table.predictor_.score(paths, texts)


def test_the_command_line_tells_labels_in_words_json_and_csv(model: Path, shapes: Path, capsys) -> None:
    def headstart(*arguments: object) -> list[str]:
        main(["predict", str(model), *map(str, arguments)])
        return capsys.readouterr().out.splitlines()

    pictures = [shapes / f"{index:03}.png" for index in range(8)]
    labels = load(model).predict_labels(pictures)
    lines = [json.loads(line) for line in headstart(*pictures, "--json")]
    assert [tuple(sorted(line["labels"])) for line in lines] == labels
    assert "label" not in lines[0]
    rows = list(csv.DictReader(headstart(*pictures, "--csv")))
    assert [tuple(sorted(filter(None, row["labels"].split(";")))) for row in rows] == labels
    assert float(rows[0]["circle"]) == pytest.approx(lines[0]["probabilities"]["circle"], abs=1e-6)
    header, *table = headstart(*pictures)
    at = header.index("labels")
    rows = iter(table)
    for line, given in zip(lines, labels, strict=True):
        if line["unknown"]:
            assert "unknown" in next(rows)
        else:
            assert sorted(next(rows)[at:].split()[0] for _ in given or ["none"]) == sorted(given or ["none"])


def test_evaluate_measures_and_what_needs_one_class_says_so(model: Path, shapes: Path, capsys) -> None:
    main(["evaluate", str(model), str(shapes / "lists.csv"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["test"]["mean_average_precision"]["value"] > 0.8
    assert Path(told["report"]).is_file()
    main(["evaluate", str(model), str(shapes / "columns.csv"), "--quiet"])
    assert "average precision, at threshold" in capsys.readouterr().out
    for arguments in (
        ("export", model, "--to", "onnx", "--int8", "--data", shapes / "lists.csv", "--out", model.parent / "int8"),
        ("compare", shapes / "columns.csv"),
        ("compare", shapes / "columns.csv", "--output", "multilabel", "--heads", "linear,prototype"),
        ("compare", shapes / "columns.csv", "--output", "multilabel", "--labels", "circle,star"),
        ("compare", shapes / "lists.csv", "--labels", "circle"),
        ("check", shapes / "columns.csv"),
        ("fit", shapes / "columns.csv", "--output", "multilabel", "--head", "prototype"),
        ("fit", shapes / "columns.csv", "--output", "multilabel", "--class-weight", "balanced"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(part) for part in arguments])
        assert ended.value.code == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith("headstart: "), arguments
    with pytest.raises(SettingError, match="choose output 'multilabel'"):
        ImageClassifier(label_columns=("a",)).fit(shapes / "columns.csv")


def test_two_models_are_compared_on_the_pictures_that_only_one_has_all_right(
    model: Path, shapes: Path, tmp_path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    description = json.loads((other / "model.json").read_text())
    description["confidence"]["labels"]["thresholds"]["circle"] = 1.0  # never given
    (other / "model.json").write_text(json.dumps(description))
    one, two = load(model), load(other)
    found = compare_models({"never circle": two, "whole": one}, shapes / "columns.csv")
    truth = pd.read_csv(shapes / "columns.csv").iloc[:, 1:].to_numpy(bool)
    paths = [shapes / name for name in pd.read_csv(shapes / "columns.csv")["path"]]
    right = [(each.predict(paths) == truth).all(axis=1) for each in (one, two)]
    (duel,) = found.duels
    assert list(found.evaluations) == ["whole", "never circle"]
    assert (duel.only_better, duel.only_worse) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    assert duel.p < 0.05


@pytest.fixture(scope="module")
def compared(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str, Path]:
    """What `compare` says of the shapes as JSON and as text, and its picture."""
    picture = tmp_path_factory.mktemp("compared") / "picture.png"
    told = ["compare", str(shapes / "lists.csv"), "--output", "multilabel", "--heads", "linear,mlp"]
    said = []
    for form in (("--json", "--folds", "3", "--repeats", "2"), ("--quiet", "--folds", "2", "--repeats", "1")):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main([*told, "--picture", str(picture), *form])
        said.append(out.getvalue())
    return json.loads(said[0]), said[1], picture


def test_heads_are_compared_by_the_mean_average_precision_of_an_own_cross_validation(shapes: Path, compared) -> None:
    from sklearn.metrics import average_precision_score

    whole, _, picture = compared
    prepared = prepare(shapes / "lists.csv", several=SeveralLabels(), seed=0)
    rows = np.array(sorted(prepared.training_rows()))
    x = extract([prepared.dataset.paths[row] for row in rows], load_backbone("efficientnet_lite0")).read()
    y, units = prepared.dataset.targets[rows], prepared.split.units[rows]
    parts = cross_validation_folds(prepared.dataset, prepared.records, rows, folds=3, repeats=2, seed=0)
    assert not set(prepared.split.test) & set(np.concatenate([part for pair in parts for part in pair]))
    expected = []
    for number, (a, b) in enumerate(parts):
        inside, outside = np.searchsorted(rows, a), np.searchsorted(rows, b)
        fitted = make_head("linear").fit(x[inside], y[inside], 3, groups=units[inside], seed=number // 3)
        expected.append(average_precision_score(y[outside], probabilities(fitted.module, x[outside, 0], "sigmoid")))
    linear = next(one for one in whole["choices"] if one["head"] == "linear")
    assert linear["mean_average_precision_by_fold"] == pytest.approx(expected)
    assert linear["mean_average_precision"]["value"] == pytest.approx(np.mean(expected))
    assert linear["mean_average_precision"]["low"] > y.mean() + 0.2
    values = [one["mean_average_precision"]["value"] for one in whole["choices"]]
    assert values == sorted(values, reverse=True)
    assert whole["test_pictures_untouched"] == len(prepared.split.test) > 10
    folds = [np.array(one["mean_average_precision_by_fold"]) for one in whole["choices"]]
    tested = corrected_t_test(*folds, np.mean([len(b) / len(a) for a, b in parts]), 3)
    assert whole["choices"][1]["against_best"]["p"] == pytest.approx(tested.p)
    assert picture.stat().st_size > 10_000


def test_the_table_of_a_comparison_speaks_of_mean_average_precision_and_its_advice_can_be_run(compared) -> None:
    whole, said, _ = compared
    assert "mean average precision" in next(line for line in said.splitlines() if line.startswith("backbone"))
    assert "accuracy" not in said + json.dumps(whole)
    assert "Nadeau and Bengio" in said
    *_, last = said.splitlines()
    assert last.startswith("Next: headstart fit ")
    assert " --output multilabel --backbone efficientnet_lite0 --head " in last


def test_folds_too_small_to_order_anything_are_refused_and_labels_that_are_rare_in_them_named(shapes: Path) -> None:
    prepared = prepare(shapes / "columns.csv", several=SeveralLabels())
    with pytest.raises(SettingError, match="folds is 80.* Give fewer folds, or add pictures"):
        share_out(prepared, 80, 1, 0, Progress())
    support, progress = prepared.dataset.targets[prepared.training_rows()].sum(axis=0), Progress()
    folds = int(support.min()) // 10 + 1
    share_out(prepared, folds, 1, 0, progress)
    (note,) = progress.notes
    rare = {name for name, total in zip(prepared.dataset.classes, support, strict=True) if total < 10 * folds}
    assert {name for name in prepared.dataset.classes if name in note} == rare
    share_out(prepared, 2, 1, 0, progress)
    assert progress.notes == [note]  # every label has 20 pictures


def test_the_report_has_every_labels_figures_and_the_pictures_behind_its_mistakes(model: Path) -> None:
    page, said = (model / "report.html").read_text(), json.loads((model / "model.json").read_text())
    test, thresholds = said["test"], said["confidence"]["labels"]["thresholds"]
    value = test["figures"]["mean_average_precision"]["value"]
    chance = np.mean([one["support"] for one in test["per_class"]]) / test["n"]
    assert f"Mean average precision {100 * value:.1f}&nbsp;% on {test['n']} test pictures" in page
    assert f"random order give {100 * chance:.1f}&nbsp;%." in page
    assert all(f"{thresholds[name]:.3f}</td>" in page for name in said["classes"])
    assert "they are for pictures that have one class each" in page
    told = pd.read_csv(model / "predictions.csv", keep_default_na=False)
    for i, name in enumerate(said["classes"]):
        has, given = told[f"label:{name}"] == 1, told[f"probability:{name}"] >= thresholds[name]
        assert f"{name} missed: show" in page
        assert f"{name} wrongly given: show" in page
        for cell, count in ((f"{i}-3", has & ~given), (f"3-{i}", given & ~has), (f"{i}-{i}", has & given)):
            button = re.search(rf'<button type="button" data-cell="{cell}".*?<b>(\d+)</b>', page)
            assert button is not None
            assert (
                int(button[1])
                == count.sum()
                == page.count(f'<figure class="picture heated" data-cell="{cell}"')
                + (page.count(f'<figure class="picture" data-cell="{cell}"'))
            )


def test_the_report_is_made_again_from_the_folder_and_its_data(model: Path, shapes: Path, tmp_path: Path) -> None:
    main(["report", str(model), str(shapes / "columns.csv"), "--out", str(tmp_path / "again.html")])
    pictures = re.compile("<figcaption>.*?</figcaption>", re.DOTALL)
    first, again = ((file).read_text() for file in (model / "report.html", tmp_path / "again.html"))
    assert pictures.findall(again) == pictures.findall(first) != []


def test_the_doctor_finds_labels_that_were_changed_and_writes_the_others(shapes: Path, tmp_path: Path, capsys) -> None:
    table = pd.read_csv(shapes / "columns.csv")
    table["path"] = [str(shapes / name) for name in table["path"]]
    changed = [3, 17, 40, 66, 91]
    for turn, row in enumerate(changed):
        table.iloc[row, 1 + turn % 3] = 1 - table.iloc[row, 1 + turn % 3]
    table.to_csv(tmp_path / "wrong.csv", index=False)
    clean = tmp_path / "clean.csv"
    told = ["--output", "multilabel", "--write-manifest", str(clean), "--leave-out", "labels", "--json"]
    main(["check", str(tmp_path / "wrong.csv"), *told])
    found = json.loads(capsys.readouterr().out)
    names = [Path(one["path"]).name for one in found["findings"]["labels"]]
    hit = {f"{row:03}.png" for row in changed} & set(names)
    assert len(hit) >= 4
    assert len(names) <= len(hit) + 3
    for one in found["findings"]["labels"]:
        if Path(one["path"]).name in hit:
            right = pd.read_csv(shapes / "columns.csv").iloc[int(Path(one["path"]).stem), 1:]
            assert one["suggestion"] == (
                ";".join(n.removeprefix("label:") for n in right.index[right == 1]) or "no label"
            )
    assert found["pairs"] is None
    left = pd.read_csv(clean)
    # The data have no split of their own: the one that was looked at is written, and its test pictures stay.
    assert list(left.columns[1:]) == [*table.columns[1:], "split"]
    assert len(left) == len(table) - sum(one["split"] != "test" for one in found["findings"]["labels"])


@pytest.mark.slow
def test_fine_tuning_is_compared_by_mean_average_precision_on_the_folds_that_both_ran_on(shapes: Path) -> None:
    found = compare(shapes / "columns.csv", several=SeveralLabels(), methods=("frozen", "finetune"), folds=2, repeats=2)
    by_method = {one.choice.method: one for one in found.scored}
    assert (len(by_method["finetune"].folds), len(by_method["frozen"].folds)) == (2, 4)
    assert by_method["finetune"].score.value > 0.7
    assert found.headline == "mean_average_precision"


@pytest.mark.slow
def test_fine_tuning_trains_each_label_and_keeps_what_validation_prefers(shapes: Path, tmp_path: Path) -> None:
    training = {"epochs": 2, "batch_size": 16}
    settings = {**SETTINGS, "method": "finetune", "unfreeze": "blocks.6", "training": training, "head": "mlp"}
    fitted = ImageClassifier(**settings).fit(shapes / "columns.csv", out=tmp_path / "model")
    history, gain = fitted.history_, fitted.predictor_.description["finetuning"]["gain"]
    assert len(history) == 2
    assert history["val_mean_average_precision"].between(0, 1).all()
    assert gain["figure"] == "mean_average_precision"
    assert gain["kept"] is (gain["finetuned"] > gain["frozen"]) or gain["finetuned"] == gain["frozen"]
    assert fitted.validation_.figures["mean_average_precision"].value == pytest.approx(
        max(gain["frozen"], gain["finetuned"]), abs=1e-6
    )
