"""A saved model as a torch module again: the answers of model.onnx, or one clear error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_backbones import tiny_backbone
from torch import nn

from headstart import ImageClassifier, load
from headstart.core import artifact
from headstart.core.errors import ModelError
from headstart.learn.heads import HEADS
from headstart.learn.methods import choice
from headstart.networks import load_network
from headstart.networks.layers import AgainstZero, UnitNorm, build_layers, describe_layers

BACKBONES = ("test_resnet", "test_vit")
SIZE = 32


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_picture) -> Path:
    folder = tmp_path_factory.mktemp("restore")
    for kind in ("dots", "stripes"):
        for index in range(25):
            make_picture(folder / kind / f"{index}.png", kind, (48, 64), index)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, pictures: Path):
    """`model(backbone, **settings)` fits a model on the drawn pictures and returns its folder; each is made once."""
    made: dict[str, Path] = {}

    def make(backbone: str, **settings) -> Path:
        key = json.dumps([backbone, settings])
        if key not in made:
            folder = tmp_path_factory.mktemp("models")
            tiny_backbone(backbone, folder, image_size=SIZE)
            settings = {"method": "frozen", "head": "linear", **settings}
            classifier = ImageClassifier(
                backbone, image_size=SIZE, weights=str(folder / f"{backbone}.safetensors"), **settings
            )
            classifier.fit(pictures, out=folder / "model", finish=None)
            made[key] = folder / "model"
        return made[key]

    return make


def assert_same_answers(folder: Path, pictures: Path) -> None:
    backbone, network = load_network(folder)
    predictor = load(folder)
    paths = sorted(pictures.rglob("*.png"))
    images = torch.from_numpy(np.stack([predictor.preprocessing.load(path.read_bytes()) for path in paths]))
    with torch.inference_mode():
        found = network(images)[0].numpy()
        features = backbone.network(images).numpy()
    expected = predictor.predict_proba(paths)
    assert np.ptp(expected, axis=0).max() > 1e-2  # the pictures are not all the same to it
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(features - predictor.extract_features(paths)).max() < 1e-3
    assert backbone.preprocessing == predictor.preprocessing
    assert not any(part.training for part in network.modules())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_the_restored_network_gives_the_probabilities_of_the_onnx_file(model, pictures, backbone, head) -> None:
    assert_same_answers(model(backbone, head=head, **({"epochs": 2} if head == "mlp" else {})), pictures)


def test_one_sigmoid_output_and_layers_without_hidden_ones_come_back_too(model, pictures) -> None:
    assert_same_answers(model("test_resnet", output="sigmoid"), pictures)
    assert_same_answers(model("test_resnet", head="mlp", hidden=(), epochs=2), pictures)


def test_other_poolings_and_crops_come_back_too(model, pictures) -> None:
    assert_same_answers(model("test_resnet", pooling="max", fit_mode="pad"), pictures)
    assert_same_answers(model("test_vit", pooling="avg", fit_mode="squash"), pictures)


def test_a_fine_tuned_network_comes_back_as_it_was_trained(model, pictures, monkeypatch) -> None:
    monkeypatch.setattr(choice, "is_better", lambda new, old: True)
    folder = model("test_resnet", method="finetune", unfreeze="all", training={"epochs": 2})
    assert artifact.read_description(folder)["method"] == "finetune"
    assert_same_answers(folder, pictures)


def test_the_tensors_are_those_of_the_file_and_can_be_trained(model) -> None:
    _, network = load_network(model("test_resnet"))
    kept = load_file(model("test_resnet") / artifact.WEIGHTS)
    assert set(kept) == set(network.state_dict())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_head_described_and_built_again_has_the_same_layers() -> None:
    heads = [
        nn.Linear(4, 3),
        nn.Sequential(nn.Linear(4, 3, bias=False)),
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.25), nn.Linear(5, 1), AgainstZero()),
        nn.Sequential(UnitNorm(), nn.Linear(4, 2)),
    ]
    for head in heads:
        described = json.loads(json.dumps(describe_layers(head)))
        built = build_layers(described)
        assert str(built) == str(head)
        built.load_state_dict(head.state_dict())
        x = torch.randn(6, 4)
        assert torch.equal(built(x), head.eval()(x))
    with pytest.raises(TypeError, match="Conv2d"):
        describe_layers(nn.Sequential(nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [{"name": "", "layer": "attention"}],
        [{"name": "", "layer": "linear", "in": 4}],
        [{"name": "", "layer": "linear", "in": -4, "out": 2, "bias": True}],
        [{"name": "", "layer": "relu"}, {"name": "1", "layer": "relu"}],
        [{"name": "0", "layer": "relu"}, {"name": "0", "layer": "relu"}],
        ["relu"],
    ],
)
def test_a_damaged_description_of_a_head_is_one_clear_error(layers) -> None:
    with pytest.raises(ModelError, match="description of the model's head is damaged"):
        build_layers(layers)


def change(folder: Path, to: Path, *, description=None, tensors=None) -> Path:
    """Copy a model folder with its description or tensors changed, its hashes right again."""
    shutil.copytree(folder, to)
    if tensors is not None:
        save_file(tensors(load_file(to / artifact.WEIGHTS)), to / artifact.WEIGHTS)
    said = artifact.read_description(to)
    if description is not None:
        description(said)
    (to / artifact.DESCRIPTION).unlink()
    artifact.write_description(to, {key: value for key, value in said.items() if key != "format_version"})
    return to


def test_what_is_missing_damaged_or_of_another_network_is_one_clear_error(model, tmp_path) -> None:
    folder = model("test_resnet")
    with pytest.raises(ModelError, match="no model folder"):
        load_network(tmp_path)
    cases = {
        "how the network is built .*layers": {"description": lambda said: said["head"].pop("layers")},
        "how the network is built .*backbone": {"description": lambda said: said.pop("backbone")},
        "unknown backbone 'test_resnit'": {"description": lambda said: said["backbone"].update(name="test_resnit")},
        "built with pooling 'avg'": {"description": lambda said: said["backbone"].update(pooling="max")},
        r"2 missing \(head.bias, head.weight\)": {
            "tensors": lambda held: {name: value for name, value in held.items() if not name.startswith("head.")}
        },
        "1 of another shape": {"tensors": lambda held: {**held, "head.bias": torch.zeros(7)}},
        "1 unexpected": {"tensors": lambda held: {**held, "extra": torch.zeros(7)}},
    }
    for number, (message, changes) in enumerate(cases.items()):
        with pytest.raises(ModelError, match=message):
            load_network(change(folder, tmp_path / str(number), **changes))
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    data = bytearray((damaged / artifact.WEIGHTS).read_bytes())
    data[-9] ^= 1
    (damaged / artifact.WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(ModelError, match=r"weights.safetensors is damaged: its sha256"):
        load_network(damaged)
    (damaged / artifact.WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"weights.safetensors cannot be read"):
        load_network(damaged)
