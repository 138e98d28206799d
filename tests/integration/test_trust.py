"""That the figures of a fit claim no more than its pictures can show: groups, cross-validation, too few pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from headstart.classifier import ImageClassifier
from headstart.cli import main
from headstart.core.intervals import wilson
from headstart.core.metrics import evaluate
from headstart.learn import confidence as confidence_of


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> Path:
    """A manifest of 40 photos of two kinds, six crops of each, with the photo as `group` and a camera."""
    root, rows = tmp_path_factory.mktemp("crops"), []
    for photo in range(40):
        kind = ("dots", "stripes")[photo % 2]
        with Image.open(make_picture(root / "whole" / f"{photo}.jpg", kind, (160, 192), photo)) as whole:
            for crop in range(6):
                file = root / f"{photo}-{crop}.jpg"
                left, top = 32 * (crop % 3), 64 * (crop // 3)
                whole.crop((left, top, left + 96, top + 96)).save(file, quality=95)
                rows.append((file.name, kind, photo, "new" if photo % 4 < 2 else "old"))
    pd.DataFrame(rows, columns=["path", "label", "group", "camera"]).to_csv(root / "crops.csv", index=False)
    return root / "crops.csv"


def test_a_fit_on_crops_tells_of_groups_and_an_evaluation_of_the_manifest_too(crops, tmp_path, capsys) -> None:
    model = tmp_path / "model"
    main(["fit", str(crops), "--out", str(model), "--method", "frozen", "--image-size", "64", "--quiet"])
    shown = capsys.readouterr().out
    told = json.loads((model / "model.json").read_text())["test"]
    assert told["n"] == 6 * told["units"]
    words = f"{told['n']} untouched test pictures in {told['units']} groups"
    assert words in shown
    accuracy = told["figures"]["accuracy"]
    assert accuracy["value"] == 1.0
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(wilson(told["units"], told["units"]))
    card, page = (model / "README.md").read_text(), (model / "report.html").read_text()
    assert f"{told['n']} pictures in {told['units']} groups" in card
    assert f"{told['n']} test pictures in {told['units']} groups" in page
    main(["evaluate", str(model), str(crops), "--no-report", "--json", "--quiet"])
    found = json.loads(capsys.readouterr().out)
    assert (found["test"]["n"], found["test"]["units"]) == (240, 40)
    assert {(row["value"], row["n"], row["units"]) for row in found["slices"]["slices"]} == {
        ("new", 120, 20),
        ("old", 120, 20),
    }
    main(["evaluate", str(model), str(crops), "--no-report", "--quiet"])
    assert "on 240 pictures in 40 groups of" in capsys.readouterr().out


def test_cross_validated_figures_are_those_of_the_saved_temperature(class_folders, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(confidence_of, "fit_temperature", lambda targets, probabilities: 2.0)
    classifier = ImageClassifier(method="frozen", image_size=64)
    classifier.fit(class_folders(per_class=9), out=tmp_path / "model")
    description = classifier.predictor_.description
    confidence, trained = description["confidence"], classifier.test_
    assert confidence["temperature"] == 2.0
    both = confidence["cross_validation"]
    assert both["after"]["log_loss"] == pytest.approx(trained.figures["log_loss"].value)
    assert abs(np.log(both["after"]["log_loss"] / both["before"]["log_loss"])) > 0.3
    rows = pd.read_csv(tmp_path / "model" / "predictions.csv")  # of the first repeat
    right, sure = (rows.label == rows.predicted).to_numpy(), rows.probability.to_numpy()
    first = evaluate(np.zeros(len(rows), int), np.where(right, (sure, 1 - sure), (1 - sure, sure)).T, ["a", "b"])
    assert first.figures["log_loss"].value == pytest.approx(trained.figures["log_loss"].value, rel=0.3)
    page = (tmp_path / "model" / "report.html").read_text()
    assert description["repeats"] == 5
    assert "The figures are means of 5 repeats" in page
    section = page[page.index('<section id="confidence">') :]
    section = section[: section.index("</section>")]
    assert f"{both['after']['ece']:.3f}" in section
    assert f"{both['before']['log_loss']:.3f} before the temperature" in section


def test_too_few_pictures_for_a_threshold_make_no_statement(class_folders, tmp_path, capsys) -> None:
    folder = class_folders(per_class=6)
    classifier = ImageClassifier(method="frozen", image_size=64).fit(folder, out=tmp_path / "model")
    assert classifier.predictor_.thresholds.novelty is None
    assert classifier.predictor_.thresholds.set_probability == 0.0
    main(["predict", str(tmp_path / "model"), str(folder), "--json", "--quiet"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all("unknown" not in line and line["novelty"] >= 0 and len(line["set"]) == 2 for line in lines)
    main(["predict", str(tmp_path / "model"), str(folder), "--csv", "--quiet"])
    head, *rows = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert {row[head.index("unknown")] for row in rows} == {""}
    assert "every answer is the set of all classes" in (tmp_path / "model" / "README.md").read_text()
    page = (tmp_path / "model" / "report.html").read_text()
    assert "so that every set holds all classes" in page
    assert "<tbody>\n</tbody>" not in page.replace(" ", "")
