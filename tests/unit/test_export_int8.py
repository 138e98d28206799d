"""8 bits: calibrated and measured on the right pictures, refused when too much is lost, and the figures are its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from exporting import labelled, write_pictures

import headstart
from headstart import ImageClassifier, load
from headstart.cli import app
from headstart.core.answers import answer
from headstart.core.errors import DataError, ExportError, SettingError
from headstart.core.intervals import wilson
from headstart.core.metrics import Figure
from headstart.core.predictor import Predictor
from headstart.core.progress import Progress
from headstart.core.runtime import shared_core
from headstart.use.exporters import eight_bits, exporter
from headstart.use.exporters.accuracy import BeforeAndAfter
from headstart.use.exporters.data import Data
from headstart.use.exporters.eight_bits import PERHAPS_SEEN, UNSEEN, judge
from headstart.use.exporters.write import export_model
from headstart.use.serve.models import Models

NAMES = {"dots": "dots", "stripes": "stripes", "checks": "checks"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, make_picture) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), make_picture, NAMES, each=14)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory, make_picture) -> Path:
    return write_pictures(tmp_path_factory.mktemp("unseen"), make_picture, NAMES, each=8, first=500)


@pytest.fixture(scope="module")
def model(tmp_path_factory, pictures) -> Path:
    """A model that says 0.123 of its accuracy, and has prediction sets of two classes and a threshold of novelty."""
    folder = tmp_path_factory.mktemp("fitted") / "model"
    ImageClassifier(method="frozen", image_size=64, seed=0).fit(pictures, finish=None).save(folder)
    description = json.loads((folder / "model.json").read_text())
    figure = {"value": 0.123, "low": 0.1, "high": 0.2}
    description["test"] = {"n": 7, "figures": {"accuracy": figure, "log_loss": figure}, "majority": 0.5}
    description["evaluated_by"] = "test pictures"
    calibration = {"ece": 0.123, "log_loss": 0.123}
    description["confidence"]["cross_validation"] = {"before": calibration, "after": calibration}
    description["confidence"]["conformal"] = {"coverage": 0.95, "threshold": 0.02, "test_coverage": figure, "n": 9}
    description["confidence"]["novelty"] |= {"threshold": 0.3, "test_alarms": figure}
    (folder / "model.json").write_text(json.dumps(description))
    return folder


@pytest.fixture
def predictor(model) -> Predictor:
    return load(model)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(eight_bits, "pictures_per_second", lambda *arguments, **options: [1.0, 2.0])


def share(true: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(true.sum()), len(true))
    return {"value": float(true.mean()), "low": low, "high": high}


@pytest.mark.parametrize("form", ["openvino", "onnx", "bundle"])
def test_int8_is_measured_on_pictures_that_were_not_learned_from_and_carries_that_figure(
    form, predictor, pictures, unseen, tmp_path
) -> None:
    paths = sorted(str(path) for folder in (pictures, unseen) for path in folder.rglob("*.jpg"))
    data = pd.DataFrame({"path": paths, "label": [Path(path).parent.name for path in paths]})
    done = headstart.export(predictor, form, out=tmp_path / "out", number="int8", data=data, max_loss=1.0)
    assert done.accuracy is not None
    assert (done.accuracy.n, done.accuracy.measured_on) == (24, UNSEEN)
    again = load(tmp_path / "out")
    new = labelled(predictor, unseen)
    # In the runtime that it was measured in: in 8 bits another one rounds otherwise.
    seen = [predictor.preprocessing.load(Path(path).read_bytes()) for path in new.paths]
    outputs = exporter(form).load(tmp_path / "out").run(np.stack(seen))
    probabilities, told = outputs["probabilities"], again.description
    assert told["export"]["number"] == "int8"
    assert told["evaluated_by"] == UNSEEN
    assert told["test"] == {"n": 24, "figures": {"accuracy": share(probabilities.argmax(axis=1) == new.targets)}}
    assert told["export"]["measured_in"] == done.proof.engine
    said = zip(probabilities, outputs["novelty"].tolist(), strict=True)
    answers = [answer(row, novelty, again.classes, again.thresholds) for row, novelty in said]
    classes = [predictor.classes[target] for target in new.targets]
    inside = np.array([name in one.prediction_set for name, one in zip(classes, answers, strict=True)])
    conformal = told["confidence"]["conformal"]
    assert conformal["test_coverage"] == share(inside)
    assert conformal["mean_size"] == pytest.approx(np.mean([len(one.prediction_set) for one in answers]))
    assert "coverage" not in conformal  # which was promised of the original
    assert told["confidence"]["novelty"]["test_alarms"] == share(np.array([one.unknown for one in answers]))
    assert again.thresholds == predictor.thresholds
    assert "cross_validation" not in told["confidence"]
    assert "0.123" not in json.dumps(told)
    served = Models([str(tmp_path / "out")]).get()
    assert served is not None
    assert served.to_json()["test"] == {"n": 24, "accuracy": told["test"]["figures"]["accuracy"]}
    assert served.to_json()["evaluated_by"] == UNSEEN


@pytest.mark.parametrize("threshold", [0.02, 0.0])
def test_an_export_in_int8_gets_a_report_without_what_was_promised_of_the_original(
    threshold, model, pictures, unseen, tmp_path, monkeypatch
) -> None:
    shutil.copytree(model, tmp_path / "original")
    file = tmp_path / "original" / "model.json"
    description = json.loads(file.read_text())
    description["confidence"]["conformal"]["threshold"] = threshold  # 0: every set holds all classes
    file.write_text(json.dumps(description))
    predictor = load(tmp_path / "original")
    data = labelled(predictor, pictures, unseen)
    export_model(predictor, tmp_path / "out", "openvino", number="int8", data=data, max_loss=1.0)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", "out", str(unseen), "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (page,) = tmp_path.glob("*.html")
    said = page.read_text(encoding="utf-8")
    rows = {name: re.search(rf"<tr><td>{name}.*?</tr>", said) for name in ("true class is in", "called unknown")}
    for name, row in rows.items():
        assert row is not None, name
        assert "at least" not in row[0]
        assert "at most" not in row[0]
    assert ("too few for sets that promise a coverage, so" in said) == (threshold == 0)


def test_a_network_in_int8_is_small_and_every_convolution_of_it_is_in_int8(
    predictor, pictures, unseen, tmp_path
) -> None:
    data = labelled(predictor, pictures, unseen)
    done = export_model(predictor, tmp_path / "out", "openvino", number="int8", data=data, max_loss=1.0)
    assert done.accuracy is not None
    assert done.accuracy.size[1] < 0.5 * done.accuracy.size[0]
    again = load(tmp_path / "out")
    right = (again.predict(data.paths) == np.array([Path(path).parent.name for path in data.paths])).mean()
    assert right > 0.8
    convolutions = _convolutions(again.network_file)
    assert len(convolutions) == 49  # 16 of them depthwise
    assert set(convolutions) <= {"i8", "u8"}


def _convolutions(file: Path) -> list[str]:
    """Return the number formats of the convolutions as OpenVINO's CPU runs them."""
    compiled = shared_core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return [info["runtimePrecision"].astype(str) for info in nodes if "Convolution" in info["layerType"].astype(str)]


def test_int8_of_a_model_that_does_not_know_its_training_pictures_carries_no_figure(
    model, pictures, unseen, tmp_path
) -> None:
    shutil.copytree(model, tmp_path / "forgetful")
    file = tmp_path / "forgetful" / "model.json"
    description = json.loads(file.read_text())
    del description["data"]["training_digests"]
    file.write_text(json.dumps(description))
    predictor, progress = load(tmp_path / "forgetful"), Progress()
    data = labelled(predictor, pictures, unseen)
    done = export_model(
        predictor, tmp_path / "out", "openvino", number="int8", data=data, max_loss=1.0, progress=progress
    )
    assert done.accuracy is not None
    assert done.accuracy.measured_on == PERHAPS_SEEN
    assert any("does not say which pictures it learned from" in note for note in progress.notes)
    told = load(tmp_path / "out").description
    assert "test" not in told
    assert "evaluated_by" not in told
    assert set(told["confidence"]["conformal"]) == {"threshold", "n"}
    assert "0.123" not in json.dumps(told)


def test_int8_that_loses_too_much_is_refused_unless_forced() -> None:
    lost = BeforeAndAfter(100, UNSEEN, Figure(0.9, 0.8, 1), Figure(0.88, 0.8, 1), -0.02, 0.5, (1, 2), (2, 1))
    judge(lost, 0.02, False, Progress())
    with pytest.raises(ExportError, match=r"0.0200 less, where at most 0.01 is allowed"):
        judge(lost, 0.01, False, Progress())
    progress = Progress()
    judge(lost, 0.01, True, progress)
    assert "as --force says" in progress.notes[0]


def test_int8_of_data_that_were_all_learned_from_is_refused(predictor, pictures, tmp_path) -> None:
    with pytest.raises(DataError, match="42 were learned from and 0 were not: int8 needs some of both"):
        export_model(predictor, tmp_path / "out", "openvino", number="int8", data=labelled(predictor, pictures))
    with pytest.raises(SettingError, match="int8 needs labelled pictures"):
        export_model(predictor, tmp_path / "out", "onnx", number="int8", data=Data(["a.jpg"]))
    assert list(tmp_path.iterdir()) == []
