"""The proof compares what people are told: label or labels, prediction set, unknown; and an export is of a model."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_models import write_model

from headstart import load
from headstart.cli.export import command
from headstart.core.errors import ExportError, SettingError
from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.core.runtime import Network
from headstart.use.exporters import exporter
from headstart.use.exporters.contract import Exported
from headstart.use.exporters.odd import ordinary_pictures
from headstart.use.exporters.proof import Tolerance, prove
from headstart.use.exporters.write import export_model

PICTURES = ordinary_pictures(4)
SEEN = np.stack([Preprocessing((32, 32)).load(picture) for picture in PICTURES.values()])
TOLERANCE = Tolerance(0.02, 1.0)


def written(folder: Path, **description: object) -> Predictor:
    """A model that says this of itself; its novelty is that of the first picture's neighbourhood."""
    write_model(folder, known=SEEN[:1])
    file = folder / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **description}))
    return load(folder)


def shifted(predictor: Predictor, shift: np.ndarray, novelty: float = 0.0, **description: object) -> Exported:
    """An export of a model, whose probabilities `(n, c)` and novelty are off by this much."""
    network = Network(predictor.network_file)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = network.run(images)
        return {
            **outputs,
            "probabilities": outputs["probabilities"] + shift.astype(np.float32),
            "novelty": outputs["novelty"] + np.float32(novelty),
        }

    return Exported({**predictor.description, **description}, run, "a test")


def several(folder: Path, above: float) -> tuple[Predictor, np.ndarray]:
    """A model of several labels, whose first threshold lies so far above the first picture's first probability."""
    plain = written(folder / "plain")
    probabilities = plain.predict_proba(list(PICTURES.values()))
    cuts = {"ant": float(probabilities[0, 0]) + above, "bee": 2.0, "wasp": 2.0}
    return written(folder / "several", output="multilabel", confidence={"labels": {"thresholds": cuts}}), probabilities


def test_a_label_that_flips_at_its_threshold_is_allowed_and_counted(tmp_path: Path) -> None:
    predictor, probabilities = several(tmp_path, above=0.005)
    shift = np.zeros_like(probabilities)
    shift[0, 0] = 0.01
    proof = prove(predictor, shifted(predictor, shift), PICTURES, {}, TOLERANCE)
    assert proof.same_label == 3
    assert prove(predictor, shifted(predictor, 0 * shift), PICTURES, {}, TOLERANCE).same_label == 4


def test_labels_of_an_export_that_gives_one_class_are_refused(tmp_path: Path) -> None:
    predictor, probabilities = several(tmp_path, above=0.005)
    with pytest.raises(ExportError, match="the export says that thresholds are"):
        prove(predictor, shifted(predictor, 0 * probabilities, output="single"), PICTURES, {}, TOLERANCE)


def test_labels_that_change_are_refused_although_the_likeliest_class_is_the_same(tmp_path: Path) -> None:
    predictor, probabilities = several(tmp_path, above=0.03)
    shift = np.zeros_like(probabilities)
    shift[0, 0] = 0.05
    with pytest.raises(ExportError, match="says something else on 1 of 4") as caught:
        prove(predictor, shifted(predictor, shift), PICTURES, {}, Tolerance(0.02, 1.0))
    assert "none (nearest: " in str(caught.value)
    proof = prove(predictor, shifted(predictor, shift), PICTURES, {}, Tolerance(0.06, 1.0))
    assert proof.same_label == 3


def test_prediction_sets_and_unknown_that_changed_are_counted(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain")
    pictures = list(PICTURES.values())
    probabilities = plain.predict_proba(pictures)
    novelty = [one.novelty for one in plain.stream(pictures)]
    cut, alarm = float(probabilities[0, 0]) + 0.005, float(novelty[1]) + 0.005
    confidence = {"conformal": {"threshold": cut}, "novelty": {"threshold": alarm}}
    predictor = written(tmp_path / "model", confidence=confidence)
    shift = np.zeros_like(probabilities)
    shift[0, 0] = 0.01
    proof = prove(predictor, shifted(predictor, shift, novelty=0.01), PICTURES, {}, TOLERANCE)
    moved = sum(value <= alarm < value + 0.01 for value in novelty)
    assert (proof.sets_changed, proof.unknown_changed) == (1, moved)
    assert moved >= 1
    nothing = prove(plain, shifted(plain, 0 * shift), PICTURES, {}, TOLERANCE)
    assert (nothing.sets_changed, nothing.unknown_changed) == (None, None)


def test_every_format_with_labels_is_proved(tmp_path: Path) -> None:
    predictor, probabilities = several(tmp_path, above=-0.01)
    for form in ("onnx", "openvino", "bundle"):
        done = export_model(predictor, tmp_path / form, form)
        assert done.proof.same_label == done.proof.ordinary + done.proof.odd
        again = load(tmp_path / form)
        pictures = list(PICTURES.values())
        assert again.predict_labels(pictures) == predictor.predict_labels(pictures)
    assert predictor.predict_labels(pictures)[0] == ("ant",)
    assert probabilities[0, 0] < 1


def test_an_export_of_an_export_is_refused_and_says_what_to_name(tmp_path: Path) -> None:
    predictor = written(tmp_path / "model")
    export_model(predictor, tmp_path / "out", "openvino")
    for form in ("onnx", "bundle", "openvino", "torch"):
        with pytest.raises(SettingError, match=r"is an export itself \(openvino, float32\).*name that folder"):
            export_model(load(tmp_path / "out"), tmp_path / "again", form)
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(predictor.network_file.read_bytes())
    bare = Predictor(alone, predictor.classes, predictor.preprocessing)
    with pytest.raises(SettingError, match="is in no model folder"):
        export_model(bare, tmp_path / "again", "onnx")
    assert not (tmp_path / "again").exists()


def test_the_command_works_inside_the_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    result = CliRunner().invoke(command, [os.curdir, "--to", "onnx", "--quiet"], catch_exceptions=False)
    assert result.exit_code == 0
    assert load(tmp_path / "model-onnx").classes == ("ant", "bee", "wasp")
    assert "24 generated pictures" in " ".join(result.stdout.split())
    assert "--data" in result.stdout


def test_a_bundle_says_its_novelty_and_the_proof_compares_it(tmp_path: Path) -> None:
    predictor = written(tmp_path / "model", confidence={"novelty": {"threshold": 0.1}})
    done = export_model(predictor, tmp_path / "bundle", "bundle")
    assert done.proof.unknown_changed == 0
    made = exporter("bundle").load(tmp_path / "bundle")
    (expected,) = predictor.stream([PICTURES["generated 1"]])
    assert made.outputs([PICTURES["generated 1"]])["novelty"] == pytest.approx([expected.novelty], abs=2e-6)
    with pytest.raises(ExportError, match="novelty differs"):
        prove(predictor, shifted(predictor, np.zeros(3), novelty=0.5), PICTURES, {}, replace(TOLERANCE))
