from __future__ import annotations

import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import KINDS

from headstart import face
from headstart.classifier import ImageClassifier
from headstart.cli import app
from headstart.core.artifact import load
from headstart.core.card import FEW
from headstart.core.digests import of_picture
from headstart.core.errors import DataError, ModelError, SettingError, WeightsError
from headstart.core.metrics import evaluate
from headstart.core.outcomes import Outcomes
from headstart.core.slices import slices
from headstart.learn.again import command, pinned
from headstart.learn.finetune.estimate import parse_seconds
from headstart.learn.save import write_history
from headstart.use.exporters.write import export_model
from headstart.use.report import Finder, Material, finish, of_model, report
from headstart.use.report.charts import _edges
from headstart.use.report.material import Measured, Said, read_history
from headstart.use.report.pictures import MOST, PER_CELL, choose_rows

HOSTILE = ("<script>alert(1)</script>", "a\"b' onload=x&amp;", "\u202egnp.exe")


def describe(classes: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    """What `model.json` says, as far as a report reads it."""
    return {
        "classes": list(classes),
        "preprocessing": {"image_size": [64, 64], "fit": "crop", "crop_fraction": 0.875, "pad_value": 128},
        "backbone": {"name": "b0", "num_features": 8, "source": "somewhere", "licence": "MIT", "weights": "abc"},
        "head": {"name": "linear"},
        "method": "frozen",
        "seed": 0,
        "evaluated_by": "test pictures",
        "parameters": {"backbone": "b0", "hidden": [256], "image_size": None},
        "versions": {"headstart": "0.1.0"},
        "data": {
            "name": "kinds",
            "fingerprint": "f" * 64,
            "counts": {"train": 30, "validation": 5, "test": 10},
            "kept_together": {},
            "set_aside": [],
        },
        **changes,
    }


def outcomes_of(paths: list[str], classes: tuple[str, ...], seed: int = 0, novelty: bool = True) -> Outcomes:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(len(classes), 0.4), len(paths)).astype(np.float32)
    targets = (probabilities.argmax(axis=1) + (np.arange(len(paths)) % 3 == 0)) % len(classes)  # a third is wrong
    scores = rng.random(len(paths)).astype(np.float32) if novelty else None
    return Outcomes(classes, tuple(paths), targets.astype(np.int64), probabilities, scores)


def material(outcomes: Outcomes, **changes: Any) -> Material:
    evaluation = evaluate(outcomes.targets, outcomes.probabilities, outcomes.classes)
    found = Material(describe(outcomes.classes), evaluation, Said.of(outcomes), Measured())
    return replace(found, **changes)


class Tags(HTMLParser):
    """Every tag and every name of an attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def text_of(page: str) -> str:
    """The page's words, without its tags."""
    return " ".join(
        html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S))).split()
    )


@pytest.fixture
def few(tmp_path: Path, make_picture: Callable[..., Path]) -> list[str]:
    return [str(make_picture(tmp_path / "kinds" / f"{n}.jpg", KINDS[n % 3], seed=n)) for n in range(12)]


def test_names_are_escaped_wherever_they_stand(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    paths = [str(make_picture(tmp_path / "<b>" / f"<img src=x onerror=alert({n})>.jpg", seed=n)) for n in range(9)]
    described = describe(HOSTILE, command="headstart fit '</code><script>'")
    described["data"] = {
        **described["data"],
        "name": "</title><script>",
        "set_aside": [{"path": "<i>", "reason": "<u>"}],
    }
    columns = {"<s>": ["<em>", "</td>"] * 10}
    cut = slices(columns, Outcomes(HOSTILE, ("x.jpg",) * 20, np.zeros(20, int), np.eye(3)[np.zeros(20, int)]))
    page = report(
        material(outcomes_of(paths, HOSTILE), description=described, notes=("<script>",), slices=cut, data="<h1>")
    )
    seen = Tags()
    seen.feed(page)
    assert seen.tags.count("script") == 1  # its own
    assert seen.tags.count("title") == 1
    assert not {"u", "s"} & set(seen.tags)
    assert not [name for name in seen.attributes if name.startswith("on")]
    for name in (*HOSTILE[:2], "<img src=x onerror=alert(0)>.jpg"):
        assert name in text_of(page)
    assert "\u202e" not in page


def test_nothing_in_the_page_asks_for_anything_outside_it(few: list[str]) -> None:
    page = report(material(outcomes_of(few, KINDS), history=({"epoch": 1, "loss": 1.0, "accuracy": 0.5},)))
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/webp;base64,|#)""", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_parameters_of_numpy_stand_in_the_page_as_numbers(few: list[str]) -> None:
    outcomes = outcomes_of(few, ("a", "b"))
    given = {"image_size": np.int64(64), "hidden": (np.int32(8), 4), "training": {"ema": np.float64(0.5)}}
    words = text_of(report(material(outcomes, description=describe(outcomes.classes, parameters=given))))
    for one in ("image_size 64", "hidden [8, 4]", 'training {"ema": 0.5}'):
        assert one in words


def test_the_headline_has_the_figures_of_the_evaluation_and_the_baseline(few: list[str]) -> None:
    made = material(outcomes_of(few, KINDS))
    accuracy, words = made.evaluation.figures["accuracy"], text_of(report(made))
    assert (
        f"{100 * accuracy.value:.1f} % of 12 test pictures named right (95 % interval {100 * accuracy.low:.1f} % to "
        f"{100 * accuracy.high:.1f} %); always naming the most frequent class gives "
        f"{100 * made.evaluation.majority:.1f} %." in words
    )
    assert "The interval is wide, because 12 pictures say no more" in words


def test_with_cross_validation_the_headline_says_so(few: list[str]) -> None:
    described = describe(KINDS, evaluated_by="repeated cross-validation")
    words = text_of(report(material(outcomes_of(few, KINDS, novelty=False), description=described)))
    assert "of 12 pictures, by cross-validation, named right" in words
    assert "too few pictures for a test set" in words
    assert "None of these" not in words


def test_every_count_of_the_confusion_matrix_is_a_button_for_its_cell(few: list[str]) -> None:
    made = material(outcomes_of(few, KINDS))
    buttons = re.findall(r'<button type="button" data-cell="(\d)-(\d)".*?<b>(\d+)</b><span>([\d.]+) %', report(made))
    confusion = made.evaluation.confusion
    assert len(buttons) == 9
    for i, j, count, share in buttons:
        assert int(count) == confusion[int(i), int(j)]
        assert float(share) == pytest.approx(
            100 * confusion[int(i), int(j)] / max(confusion[int(i)].sum(), 1), abs=0.05
        )


def test_what_was_measured_of_the_confidence_is_shown_beside_what_was_meant(few: list[str]) -> None:
    confidence = {
        "temperature": 1.5,
        "n": 77,
        "test": {"before": {"ece": 0.123, "log_loss": 0.456}, "after": {"ece": 0.067, "log_loss": 0.345}},
        "conformal": {"coverage": 0.95, "threshold": 0.2, "mean_size": 1.25},
        "novelty": {"threshold": 0.9, "n": 40, "neighbours": 5, "bank": 30, "false_alarm_rate": 0.05},
    }
    from headstart.core.metrics import Figure

    measured = Measured(0.067, 0.345, Figure(0.9412, 0.85, 0.98), 1.25, Figure(0.0312, 0.01, 0.09))
    described = describe(KINDS, confidence=confidence)
    words = text_of(report(material(outcomes_of(few, KINDS), description=described, measured=measured)))
    for part in (
        "0.067 0.123 before",
        "0.345 0.456 before",
        "94.1 % 85.0 to 98.0 at least 95.0 %",
        "1.25",
        "fitted on 77",
    ):
        assert part in words
    assert "3.1 % 1.0 to 9.0 at most 5.0 %" in words


def test_a_page_of_a_thousand_pictures_of_noise_stays_below_5_mb(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for number in range(1000):  # noise is what compresses worst
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path, quality=60)
        paths.append(str(path))
    page = report(material(outcomes_of(paths, tuple(map(str, range(10)))), heat_maps=_heat))
    assert len(page.encode()) < 5_000_000
    assert page.count("<figure class=") > 100


def _heat(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    heat = np.zeros(images.shape[:3], np.float32)
    heat[:, 16:32, 16:32] = 1
    return heat


def test_the_pictures_shown_are_the_surest_mistakes_then_the_least_sure_right_ones() -> None:
    n = 1000
    targets = np.arange(n) % 2
    confidence = np.random.default_rng(0).uniform(0.5, 1, n)
    named = np.where(np.arange(n) < 200, 1 - targets, targets)
    said = Said(("a", "b"), tuple(map(str, range(n))), tuple(map(str, range(n))), targets, named, confidence, None)
    rows = choose_rows(said)
    wrong = [row for row in rows if row < 200]
    assert len(rows) == len(set(rows)) == MOST
    assert rows[: len(wrong)] == wrong == sorted(wrong, key=lambda row: -confidence[row])
    assert len(wrong) == 2 * PER_CELL
    right = rows[len(wrong) :]
    assert set(right) == {
        row
        for c in (0, 1)
        for row in sorted(np.flatnonzero((targets == c) & (named == c)), key=lambda r: confidence[r])[:110]
    }


def test_pictures_whose_place_is_not_known_are_not_shown_and_that_is_said(few: list[str]) -> None:
    made = material(outcomes_of(few, KINDS))
    lost = replace(made.said, paths=(None,) * 12)
    page = report(replace(made, said=lost))
    assert '<figure class="picture' not in page
    assert "12 pictures are not shown" in text_of(page)
    assert "headstart report MODEL FOLDER" in page
    searched = report(replace(made, said=lost, why_missing="They have gone."))
    assert "not found. They have gone." in text_of(searched)
    assert "MODEL FOLDER" not in searched


def test_a_picture_that_has_gone_since_leaves_the_page_whole(few: list[str]) -> None:
    Path(few[0]).unlink()
    assert "cannot be read any more" in text_of(report(material(outcomes_of(few, KINDS), heat_maps=_heat)))


def test_heat_maps_are_asked_for_the_class_that_was_named_and_stand_beside_the_mistakes(few: list[str]) -> None:
    asked: list[int] = []

    def heat_maps(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (64, 64, 3)
        asked.extend(targets.tolist())
        return _heat(images, targets)

    made = material(outcomes_of(few, KINDS), heat_maps=heat_maps)
    page = report(made)
    wrong = np.flatnonzero(~made.said.right)
    order = wrong[np.argsort(-made.said.confidence[wrong], kind="stable")]
    assert asked == made.said.named[order].tolist() != []
    assert page.count("where the network looked in") == len(wrong)


def test_without_heat_maps_the_reason_stands_in_the_page(few: list[str]) -> None:
    def fails(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        raise WeightsError("the weights are <gone>.")

    page = report(material(outcomes_of(few, KINDS), heat_maps=fails))
    assert "No heat maps: the weights are <gone>." in text_of(page)


def test_many_classes_get_a_list_of_confusions_in_place_of_a_matrix(few: list[str]) -> None:
    classes = tuple(f"class {number}" for number in range(40))
    made = material(outcomes_of(few, classes))
    page = report(made)
    assert 'class="matrix"' not in page
    wrong = int((~made.said.right).sum())
    assert sum(int(count) for count in re.findall(r"<b>(\d+)</b><span>", page)) == wrong > 0


def test_what_moved_in_fine_tuning_and_the_curves_are_shown(few: list[str]) -> None:
    moved = [
        {"stage": "blocks.0", "moved": 0.0, "untouched": True},
        {"stage": "head", "moved": 0.1234, "untouched": False},
    ]
    gain = {"frozen": 0.9, "finetuned": 0.95, "p": 0.2, "kept": True}
    weighed = {"figure": "balanced_accuracy", "test": "permutation"}
    proof = {**weighed, "epochs": 3, "frozen_tensors": 212, "frozen_hash": "0123456789ab"}
    history = tuple(
        {"epoch": n, "loss": 1 / n, "val_loss": 1.1 / n, "accuracy": 0.8, "val_accuracy": 0.7} for n in (1, 2, 3)
    )
    described = describe(KINDS, finetuning={"gain": gain, "moved": moved})
    page = report(material(outcomes_of(few, KINDS), description=described, history=history))
    words = text_of(page)
    assert "blocks.0 not at all head 12.34 %" in words
    assert "from 90.0 % to 95.0 % (McNemar p = 0.2: chance alone can do that)" in words
    assert "Choosing the epoch on these pictures makes the second figure and p look better than they are" in words
    assert "validation" in words
    assert page.count("<svg") == 4
    assert "fine-tuning" not in page.split("<svg")[1]
    # A model of today says more.
    described = describe(KINDS, finetuning={"gain": {**gain, **proof}, "moved": moved})
    rows = [{**row, "stage": stage} for stage in ("head", "finetune") for row in history]
    page = report(material(outcomes_of(few, KINDS), description=described, history=tuple(rows)))
    words = text_of(page)
    assert "Fine-tuning took validation balanced accuracy from 90.0 % to 95.0 % (permutation p = 0.2: chance" in words
    assert "chance alone can do that; the epoch was chosen on these pictures)" in words
    assert "the 212 tensors that were to stay have the same hash after training as before, 0123456789ab…" in words
    assert page.count("fine-tuning</text>") == 2


def test_a_history_of_head_and_fine_tuning_is_read_as_it_was_written(tmp_path: Path) -> None:
    head = {"epoch": 1, "stage": "head", "loss": 0.5}
    tuned = {"epoch": 1, "stage": "finetune", "loss": 0.25, "seconds": 3.5}
    write_history(tmp_path, [head, tuned])
    assert read_history(tmp_path) == (head, tuned)


def test_a_small_class_is_pointed_out(few: list[str]) -> None:
    assert f"fewer than {FEW} pictures" in text_of(report(material(outcomes_of(few, KINDS))))


def test_of_several_labels_the_reliability_counts_statements_and_draws_no_intervals(few: list[str]) -> None:
    one = outcomes_of(few, KINDS)
    several = replace(one, targets=np.eye(3, dtype=bool)[one.targets])
    drawn, told = {}, {}
    for kind, outcomes in (("one", one), ("several", several)):
        page = report(material(outcomes))
        drawn[kind] = (
            re.search(r"<h3>Probabilities</h3>(.*?)</svg>", page, flags=re.S)[1].count("stroke-opacity: 0.55") > 0
        )
        told[kind] = text_of(page)
    assert drawn == {"one": True, "several": False}
    assert "Larger points are more pictures; bars are 95 % intervals." in told["one"]
    assert "Larger points are more statements (a picture and a label); no intervals" in told["several"]


def test_what_only_a_run_has_to_tell_is_no_matter_for_its_report(
    make_picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.core.progress import Progress

    progress = Progress()
    progress.note("The engine was slow.")
    progress.note("A class has few pictures.", report=True)
    progress.note("A class has few pictures.", report=True)
    assert progress.reported == ["A class has few pictures."]
    assert len(progress.notes) == 3
    for number in range(20):  # two labels for one picture is about the data
        make_picture(tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg", "dots", seed=number)
    shutil.copy(tmp_path / "data" / "a" / "0.jpg", tmp_path / "data" / "b" / "again.jpg")
    ImageClassifier(method="frozen", image_size=32, precision="bfloat16").fit(tmp_path / "data", out=tmp_path / "model")
    words = text_of((tmp_path / "model" / "report.html").read_text())
    assert words.count("again.jpg") >= 1
    assert "bfloat16 gives" not in words


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> tuple[Path, Path]:
    """A real model whose labels mean nothing, so that it is often wrong, and its pictures."""
    root = tmp_path_factory.mktemp("report")
    for number in range(40):
        make_picture(root / "data" / "ab"[number % 2] / f"{number}.jpg", "dots", seed=number)
    ImageClassifier(method="frozen", image_size=64, test_size=0.4, seed=3).fit(root / "data", out=root / "model")
    return root / "model", root / "data"


def test_every_fit_writes_a_report_with_the_figures_of_model_json(fitted: tuple[Path, Path]) -> None:
    model, _ = fitted
    page = (model / "report.html").read_text()
    said = json.loads((model / "model.json").read_text())
    words = text_of(page)
    figures = said["test"]["figures"]
    for name in ("accuracy", "balanced_accuracy"):
        value, low, high = (100 * figures[name][end] for end in ("value", "low", "high"))
        assert f"{value:.1f} % {low:.1f} to {high:.1f} % {name.replace('_', ' ')}" in words
    assert "{value:.3f} {low:.3f} to {high:.3f} log loss".format(**figures["log_loss"]) in words
    for name, one in zip(said["classes"], said["test"]["per_class"], strict=True):
        recall = one["recall"]
        value, low, high = (100 * recall[key] for key in ("value", "low", "high"))
        assert f"{name} {one['support']} {value:.1f} % {low:.1f} to {high:.1f}" in words
    assert said["data"]["fingerprint"] in words
    precision = said["features"]["precision"]
    assert f"fit data --image-size 64 --method frozen --precision {precision} --seed 3 --test-size 0.4" in words
    assert "report.html" in said["files"]
    wrong = said["test"]["n"] - int(np.trace(said["test"]["confusion"]))
    assert page.count("where the network looked in") == min(wrong, 12) > 0


def test_an_exported_model_gets_a_report_of_what_it_is_measured_on(
    fitted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = fitted
    export_model(load(model), tmp_path / "exported", "onnx")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", "exported", str(data), "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (page,) = tmp_path.glob("*.html")
    assert "All parameters" not in page.read_text(encoding="utf-8")


def test_python_writes_the_report_of_a_model_and_of_a_measurement_too(
    fitted: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = fitted
    tested = json.loads((model / "model.json").read_text())["test"]["n"]
    made = face.report(model, data, out=tmp_path / "again.html", heat=False)
    assert (made.file, made.pictures) == (tmp_path / "again.html", tested)
    assert "were not found" not in text_of(made.file.read_text())
    assert "where the network looked in" not in made.file.read_text()
    beside = face.report(model)
    assert beside.file == model.with_name("model-report.html")
    assert "were not found" in text_of(beside.file.read_text())
    paths = sorted(map(str, data.rglob("*.jpg")))[:30]
    table = pd.DataFrame({"path": paths, "label": [Path(path).parent.name for path in paths]})
    found = face.evaluate_on(model, table, page=tmp_path / "table.html")
    right = load(model).predict(paths) == table.label.to_numpy()
    assert found.evaluation.figures["accuracy"].value == pytest.approx(right.mean())
    assert "a DataFrame" in text_of((tmp_path / "table.html").read_text())


def test_a_report_that_cannot_be_written_is_one_clear_error(
    fitted: tuple[Path, Path], tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    model, _ = fitted
    for kind in "ab":
        make_picture(tmp_path / "other" / kind / "new.jpg", "dots", seed=77)
    with pytest.raises(DataError, match="has none of the test pictures of model: name what it was fitted on"):
        face.report(model, tmp_path / "other", out=tmp_path / "a.html")
    with pytest.raises(SettingError, match="does not end in .html"):
        face.report(model, out=tmp_path / "a.pdf")
    with pytest.raises(SettingError, match="does not end in .html"):
        face.evaluate_on(model, tmp_path / "other", page=tmp_path / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_finish_none_writes_no_report(fitted: tuple[Path, Path], tmp_path: Path) -> None:
    ImageClassifier(method="frozen", image_size=64, seed=3).fit(fitted[1], out=tmp_path / "model", finish=None)
    assert not (tmp_path / "model" / "report.html").exists()


def test_a_model_folder_and_its_data_give_the_report_of_the_fit_again(fitted: tuple[Path, Path]) -> None:
    model, data = fitted
    said = json.loads((model / "model.json").read_text())
    found = of_model(model, said, Finder(map(str, data.rglob("*.jpg")), ()))
    pictures = re.compile(r"<figure.*?</figure>", re.S)
    first, second = (pictures.findall(page) for page in ((model / "report.html").read_text(), report(found)))
    assert len(first) == len(second) > 10
    assert text_of(" ".join(second)) == text_of(" ".join(first))


def test_of_several_pictures_with_a_name_the_one_that_was_not_learned_from_is_found(
    fitted: tuple[Path, Path], tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    model, data = fitted
    said = json.loads((model / "model.json").read_text())
    tested = [row["path"] for row in csv.DictReader((model / "predictions.csv").read_text().splitlines())]
    learned = next(p for p in sorted(data.rglob("*.jpg")) if "/".join(p.parts[-2:]) not in tested)
    name = "/".join(learned.parts[-2:])
    other = make_picture(tmp_path / name, seed=999)
    trained_on = set(said["data"]["training_digests"])
    assert Finder([str(learned), str(other)], trained_on)(name) == str(other)
    assert Finder([str(other)], trained_on)(name) == str(other)
    assert Finder([], trained_on)(name) is None


def test_of_several_pictures_with_a_name_the_one_with_the_same_content_is_found(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    paths = [str(make_picture(tmp_path / kind / "id1" / "front.jpg", seed=n)) for n, kind in enumerate("abc")]
    find = Finder(paths, ())
    for path in paths:
        assert find("id1/front.jpg", of_picture(path)[:16]) == path
    assert find("id1/front.jpg", "0" * 16) is None  # another picture by that name
    assert find.ambiguous == 0
    assert find("id1/front.jpg") is None  # what an older model knows
    assert find.ambiguous == 1


def test_a_model_finds_its_test_pictures_again_where_all_have_one_name(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(48):
        make_picture(
            tmp_path / "data" / "ab"[number % 2] / f"id{number // 2}" / "front.jpg", KINDS[number % 2], seed=number
        )
    ImageClassifier(method="frozen", image_size=32, test_size=0.4).fit(tmp_path / "data", out=tmp_path / "model")

    def again() -> str:
        done = CliRunner().invoke(app, ["report", str(tmp_path / "model"), str(tmp_path / "data"), "--no-heat"])
        assert done.exit_code == 0, done.output
        return text_of((tmp_path / "model-report.html").read_text())

    assert "not shown" not in again()
    said = tmp_path / "model" / "predictions.csv"
    rows = [row.rsplit(",", 1)[0] for row in said.read_text().splitlines()]
    said.write_text("\n".join(rows))  # as an older headstart has written it
    words = again()
    assert re.search(r"Several pictures of data have the name of \d+ pictures? of these", words)
    assert "MODEL FOLDER" not in words  # which has just been done


def test_a_damaged_predictions_csv_is_a_clear_error(fitted: tuple[Path, Path], tmp_path: Path) -> None:
    said = json.loads((fitted[0] / "model.json").read_text())
    (tmp_path / "predictions.csv").write_text("path,label,predicted,probability,novelty\na,b,zebra,0.5,\n")
    with pytest.raises(ModelError, match="cannot be used"):
        of_model(tmp_path, said, lambda name, digest: None)


def test_a_report_that_fails_is_a_warning_and_the_model_stands(tmp_path: Path) -> None:
    broken = SimpleNamespace(folder=tmp_path)
    with pytest.warns(UserWarning, match=r"report.html was not written .*; the model itself is whole"):
        finish(broken)  # type: ignore[arg-type]


def test_scikit_learn_clones_the_classifier_that_writes_reports() -> None:
    from sklearn.base import clone

    made = clone(ImageClassifier(method="frozen", seed=7))
    assert type(made) is ImageClassifier
    assert made.get_params()["seed"] == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "headstart fit data"),
        ({"hidden": (8, 4), "training": {"epochs": 3}}, "headstart fit data --hidden 8,4 --training epochs=3"),
        ({"unfreeze": [("blocks.6", 2), ("blocks.5", 3)]}, "headstart fit data --unfreeze blocks.6=2,blocks.5=3"),
        ({"class_weight": {"a, b": 2.0}}, "ImageClassifier(class_weight={'a, b': 2.0}).fit(…)"),
        ({"weights": "/home/me/w.pth"}, "headstart fit data --weights w.pth"),
    ],
)
def test_the_command_has_what_is_not_the_default(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    (tmp_path / "data").mkdir()
    defaults = ImageClassifier().get_params()
    assert command({**defaults, **changes}, defaults, str(tmp_path / "data")) == words


def test_the_command_pins_what_trials_on_this_machine_chose(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    defaults = ImageClassifier().get_params()
    given = {**defaults, "training": {"epochs": 3}}
    for training, words in (
        (None, "--precision float32 --training epochs=3"),
        ("bfloat16", "--precision float32 --training epochs=3,precision=bfloat16"),
    ):
        again = pinned(given, "float32", training)
        assert command(again, defaults, str(tmp_path / "data")) == f"headstart fit data {words}"


OTHERS: dict[str, list[Any]] = {
    "backbone": ["resnet18"],
    "method": ["frozen"],
    "head": ["mlp"],
    "hidden": [(8, 4), (16,), (), [8]],
    "dropout": [0.1],
    "epochs": [3],
    "patience": [2],
    "batch_size": [8],
    "learning_rate": [1e-05, 3],
    "output": ["multilabel"],
    "image_size": [64, (64, 96)],
    "pooling": ["max"],
    "fit_mode": ["pad"],
    "views": [5],
    "augmentation": ["flip", {"policy": "flip", "rotation": 15}, {"trivial": True, "hue": 0.1}, {}],
    "unfreeze": [4, "blocks.6", "all", [("head", 2), ("blocks.6", 3), (12, 5)], [("head", 1), ("head", 2)]],
    "training": [{"epochs": 3, "ema": 0.5, "optimizer": "sgd"}, {"epochs": None, "ema": 0.5}, {"unfreeze": [(4, 2)]}],
    "budget": ["10m", 90, 0.5],
    "class_weight": ["balanced", {"ant hill": 2, "bee": 1.5}, {"a, b": 2.0}, {" ant": 2.0}, {"policy": 3}],
    "label_columns": [("red", "round"), ["red"], ("red, dark", "round"), (" red",), ("-x",)],
    "label_separator": ["|", " ", "-", "--", ",", "'"],
    "weights": ["w.pth"],
    "validation_size": [0.3],
    "test_size": [0.3],
    "coverage": [0.9],
    "false_alarm_rate": [0.01],
    "seed": [7],
    "device": ["cpu"],
    "precision": ["float32"],
}


def alike(value: Any) -> Any:
    """Return a value as it is compared: whatever sequence it came as, and without what says nothing."""
    if isinstance(value, dict):
        return {name: alike(one) for name, one in value.items() if one is not None}
    return [alike(one) for one in value] if isinstance(value, (list, tuple)) else value


def test_every_parameter_is_given_another_value_here() -> None:
    assert set(OTHERS) == set(ImageClassifier().get_params())


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OTHERS.items() for value in values])
def test_the_command_that_is_told_gives_the_same_parameters_again(tmp_path: Path, name: str, value: Any) -> None:
    import shlex

    from headstart.cli import fit

    (tmp_path / "my data").mkdir()
    defaults = ImageClassifier().get_params()
    told = command({**defaults, name: value}, defaults, str(tmp_path / "my data"))
    if told.startswith("ImageClassifier"):  # what no option can take
        given = eval(told.removesuffix(".fit(…)"), {"ImageClassifier": ImageClassifier}).get_params()
    else:
        words = shlex.split(told)
        with fit.command.make_context("fit", words[2:]) as ctx:
            given = {**defaults, **fit.parameters(ctx)}
            assert ctx.params["data"] == "my data"
    if name == "budget":
        assert parse_seconds(given.pop(name)) == parse_seconds(value)
        value = defaults[name] = None
        given[name] = None
    if value == {}:
        value = None
    assert alike(given) == alike({**defaults, name: value})


def test_the_command_has_an_option_for_all_but_what_none_can_take(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    defaults = ImageClassifier().get_params()
    in_python = [
        value
        for name, values in OTHERS.items()
        for value in values
        if command({**defaults, name: value}, defaults, str(tmp_path / "data")).startswith("Image")
    ]
    assert in_python == [
        (),
        [("head", 1), ("head", 2)],
        {"unfreeze": [(4, 2)]},
        {"a, b": 2.0},
        {" ant": 2.0},
        ("red, dark", "round"),
        (" red",),
    ]


def test_no_bar_of_the_novelty_chart_stands_on_both_sides_of_the_threshold() -> None:
    scores = np.random.default_rng(0).normal(0.4, 0.1, 200)
    for threshold in (0.31, 0.45, float(np.quantile(scores, 0.99))):
        edges = np.array(_edges(scores, threshold))
        assert np.abs(edges - threshold).min() < 1e-9
        assert edges[0] <= scores.min()
        assert edges[-1] >= scores.max()
        assert np.histogram(scores, edges)[0][edges[:-1] >= threshold - 1e-9].sum() == (scores >= threshold).sum()
    for seed in range(
        500
    ):  # coarse scores, the threshold on one of them: a bin's end may be the lowest or highest score
        rng = np.random.default_rng(seed)
        coarse = np.round(rng.normal(0.4, 0.1, rng.integers(5, 300)), rng.integers(1, 4)).astype(np.float32)
        threshold = float(rng.choice(coarse))
        counts, edges = np.histogram(coarse, _edges(coarse, threshold))
        assert counts.sum() == len(coarse)
        if coarse.min() < threshold < coarse.max():
            assert counts[edges[:-1] >= threshold].sum() == (coarse >= threshold).sum()
    assert _edges(scores, 2.0) == _edges(scores, None) == 25  # it lies outside: as many bins as ever


def test_a_page_without_a_threshold_or_figures_of_confidence_claims_none(few: list[str]) -> None:
    words = text_of(report(material(outcomes_of(few, KINDS))))
    assert "this model never says it" in words
    assert "Above the line" not in words
    assert "to compare with" not in words  # no table without rows
    described = describe(KINDS, confidence={"novelty": {"threshold": 0.5, "n": 9, "neighbours": 5, "bank": 9}})
    assert "Above the line" in text_of(report(material(outcomes_of(few, KINDS), description=described)))
