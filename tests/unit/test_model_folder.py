"""The model folder and the predictor: whole or not at all, checked when read, the same answers as torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from odd_pictures import gradient, odd_pictures
from tiny_models import CLASSES, TinyBackbone
from torch import nn

from headstart.core import artifact
from headstart.core.errors import DataError, ImageError, ModelError, SettingError
from headstart.core.preprocessing import Preprocessing
from headstart.learn.save import write_network
from headstart.networks.export import Classifier

PREPROCESSING = Preprocessing((32, 32))


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    head = nn.Linear(8, 3)
    nn.init.normal_(head.weight, std=20.0)  # answers far from uniform
    return Classifier(TinyBackbone(), head).eval()


@pytest.fixture
def model(tmp_path, network):
    folder = tmp_path / "model"
    with artifact.new_model_folder(folder) as temporary:
        samples = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
        write_network(temporary, network, CLASSES, PREPROCESSING, samples)
        artifact.write_description(temporary, {"classes": list(CLASSES), "preprocessing": PREPROCESSING.to_json()})
    return folder


def test_saved_probabilities_are_those_of_torch_on_every_odd_picture(model, network) -> None:
    pictures = list(odd_pictures().values())
    found = artifact.load(model).predict_proba(pictures)
    with torch.inference_mode():
        seen = torch.from_numpy(np.stack([PREPROCESSING.load(data) for data in pictures]))
        expected, features = network(seen)
    assert np.abs(found - expected.numpy()).max() < 1e-4
    assert np.abs(artifact.load(model).extract_features(pictures) - features.numpy()).max() < 1e-3
    assert len({row.argmax() for row in found}) > 1


def test_the_safetensors_hold_the_same_network(model, network) -> None:
    from safetensors.torch import load_file

    again = Classifier(TinyBackbone(), nn.Linear(8, 3))
    again.load_state_dict(load_file(model / artifact.WEIGHTS))
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8))
    with torch.inference_mode():
        assert torch.equal(again.eval()(images)[0], network(images)[0])


def test_paths_bytes_arrays_and_pil_pictures_give_the_same_answer(model, tmp_path) -> None:
    from PIL import Image

    predictor = artifact.load(model)
    path = tmp_path / "picture.png"
    Image.fromarray(gradient()).save(path)
    rows = predictor.predict_proba([path, str(path), path.read_bytes(), gradient(), Image.fromarray(gradient())])
    assert np.abs(rows - rows[0]).max() < 1e-6
    assert predictor.predict(path).tolist() == [CLASSES[rows[0].argmax()]]
    assert predictor.predict_proba(tmp_path).shape == (1, 3)
    assert predictor.predict_proba(np.stack([gradient()] * 7)).shape == (7, 3)


def test_a_broken_picture_is_named_and_in_a_stream_harms_no_other(model, tmp_path) -> None:
    predictor = artifact.load(model)
    pictures = [gradient(), b"no picture", gradient()]
    with pytest.raises(ImageError, match="picture 1: "):
        predictor.predict(pictures)
    answers = list(predictor.stream(pictures))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert (answers[0].probabilities == answers[2].probabilities).all()
    with pytest.raises(DataError, match="no picture"):
        predictor.predict(tmp_path / "model")
    with pytest.raises(SettingError, match="int"):
        predictor.predict(3)


def test_order_is_kept_over_many_pictures(model) -> None:
    rng = np.random.default_rng(0)
    images = [np.full((40, 40, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(53)]
    predictor = artifact.load(model)
    together = predictor.predict_proba(images)
    assert np.abs(together - np.concatenate([predictor.predict_proba(image) for image in images])).max() < 1e-6


def test_predicting_imports_no_torch(model, tmp_path) -> None:
    from PIL import Image

    Image.fromarray(gradient()).save(tmp_path / "picture.jpg")
    code = (
        "import sys, headstart; headstart.load(sys.argv[1]).predict(sys.argv[2]);"
        "print([name for name in ('torch', 'sklearn', 'pandas', 'scipy') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(model), str(tmp_path / "picture.jpg")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["model.onnx"])
def test_a_changed_byte_is_noticed(model, name: str) -> None:
    data = bytearray((model / name).read_bytes())
    data[len(data) // 2] ^= 1
    (model / name).write_bytes(bytes(data))
    with pytest.raises(ModelError, match="damaged"):
        artifact.load(model)


def test_missing_damaged_and_newer_descriptions_are_told_apart(model, tmp_path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        artifact.load(tmp_path)
    description = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**description, "format_version": 99}))
    with pytest.raises(ModelError, match="format 99"):
        artifact.load(model)
    wrong = [{"classes": "ant"}, {"data": {"training_digests": None}}, {"data": None}]
    for text in ["{", "[]", "{}", "\xff", *(json.dumps({**description, **values}) for values in wrong)]:
        (model / "model.json").write_text(text, encoding="latin-1")
        with pytest.raises(ModelError, match="damaged"):
            artifact.load(model)


def test_a_model_replaces_a_model_and_nothing_else(model, tmp_path) -> None:
    before = (model / "model.onnx").read_bytes()
    with pytest.raises(RuntimeError, match="half way"), artifact.new_model_folder(model) as temporary:
        (temporary / "model.onnx").write_bytes(b"half")
        raise RuntimeError("half way")
    assert (model / "model.onnx").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with artifact.new_model_folder(model) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in model.iterdir()] == ["new"]
    foreign = tmp_path / "holiday"
    foreign.mkdir()
    (foreign / "photo.jpg").touch()
    with pytest.raises(ModelError, match="no model folder"), artifact.new_model_folder(foreign):
        pass
    assert (foreign / "photo.jpg").exists()


def test_what_another_model_set_aside_is_left_alone(model, tmp_path) -> None:
    others = [tmp_path / name for name in (".model.v2.ab12cd34.old", ".model.2024.old")]
    for other in others:
        model.rename(other) if model.exists() else other.mkdir()
    with artifact.new_model_folder(model) as temporary:
        (temporary / "new").touch()
    assert all(other.is_dir() for other in others)


def test_a_model_that_version_0_1_0_set_aside_is_told_and_not_removed(model, tmp_path) -> None:
    former = tmp_path / ".model.x_k3zq7p.old"  # as `tempfile` makes names
    model.rename(former)
    with pytest.raises(ModelError, match=r"The model that stood there is .*x_k3zq7p\.old: rename it back"):
        artifact.load(model)
    with artifact.new_model_folder(model) as temporary:
        (temporary / "new").touch()
    assert former.is_dir()  # it might be the user's own


def test_a_kill_while_a_model_is_replaced_loses_nothing_and_is_explained(model, tmp_path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from headstart.core import artifact\n"
        "rename, calls = Path.rename, []\n"
        "def killed(self, target):\n"
        "    calls.append(target)\n"
        "    os._exit(9) if len(calls) == 2 else rename(self, target)\n"
        "Path.rename = killed\n"
        "with artifact.new_model_folder(Path(sys.argv[1])) as folder: artifact.write_description(folder, {})"
    )
    assert subprocess.run([sys.executable, "-c", code, str(model)]).returncode == 9
    with pytest.raises(ModelError, match="replacing it was interrupted. The model that stood there is") as told:
        artifact.load(model)
    former = next(path for path in tmp_path.iterdir() if str(path) in str(told.value))
    assert artifact.load(former).classes == CLASSES
    with artifact.new_model_folder(model) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in model.iterdir()] == ["new"]
    assert not former.exists()


def test_a_network_that_exports_wrongly_is_not_saved(tmp_path, network, monkeypatch) -> None:
    from headstart.learn import save

    monkeypatch.setattr(save, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match="differ from torch"), artifact.new_model_folder(tmp_path / "m") as temporary:
        write_network(temporary, network, CLASSES, PREPROCESSING, np.zeros((1, 32, 32, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "named", "words"),
    [
        (["program.pt2", "weights.safetensors", "export.json"], "", "is a model exported for torch.*--to onnx"),
        (["program.pt2"], "program.pt2", "is a model exported for torch.*Name the model folder"),
        (["model.tflite"], "", "is a model exported for LiteRT"),
        (["ants-bundle.zip"], "ants-bundle.zip", "is an archive: unpack it"),
        (["model.json"], "model.json", "is a file of a model folder: name the folder, "),
        (["picture.jpg"], "", "is no model folder: it has no model.json"),
    ],
)
def test_what_is_no_model_folder_is_told_for_what_it_is(tmp_path, files, named, words) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=words):
        artifact.load(tmp_path / named)
