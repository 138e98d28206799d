"""Saved models on the same pictures, and the slices of an evaluation, with networks small enough to be built here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from headstart.cli import main
from headstart.core import artifact
from headstart.core.errors import DataError, SettingError
from headstart.core.preprocessing import Preprocessing
from headstart.core.significance import holm
from headstart.learn.evaluation import evaluate_on
from headstart.learn.save import write_network
from headstart.learn.versus import Duel, compare_models
from headstart.networks.export import Classifier

SIZE = Preprocessing((32, 32))


class Brightness(nn.Module):
    """uint8 `(n, 32, 32, 3)` -> the mean of each channel from 0 to 1, `(n, 3)`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((1, 2)) / 255


def save(folder: Path, threshold: float, classes: tuple[str, ...] = ("dark", "light"), channel: int = 0) -> Path:
    """Save a model that says the second class where a channel is above the threshold."""
    head = nn.Linear(3, len(classes))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight[1, channel], head.bias[1] = 40.0, -40.0 * threshold
    network = Classifier(Brightness(), head).eval()
    with artifact.new_model_folder(folder) as temporary:
        samples = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        write_network(temporary, network, classes, SIZE, samples)
        artifact.write_description(temporary, {"classes": list(classes), "preprocessing": SIZE.to_json()})
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """40 plain pictures from dark to light; `light` from 128 on; a manifest with a camera, a size and a number."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for index in range(40):
        level = 4 + 6 * index
        rng = np.random.default_rng(index)  # so that no two files are the same
        image = np.clip(level + rng.integers(-3, 4, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{index:02}.png")
        label = "light" if level >= 128 else "dark"
        rows.append((f"{index:02}.png", label, "old" if 12 <= index < 24 else "new", 100 + index, f"id-{index}"))
    frame = pd.DataFrame(rows, columns=["path", "label", "camera", "size", "id"])
    frame.to_csv(folder / "pictures.csv", index=False)
    frame[["path", "label"]].to_csv(folder / "plain.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """`good` at the true threshold, `off` and `further` above it."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "good": save(folder / "good", 0.5),
        "off": save(folder / "off", 0.6),
        "further": save(folder / "further", 0.8),
    }


def test_the_paired_test_counts_the_pictures_that_one_alone_names_right(models, pictures) -> None:
    loaded = {name: artifact.load(models[name]) for name in ("further", "off", "good")}
    found = compare_models(loaded, pictures / "plain.csv")
    assert list(found.evaluations) == ["good", "off", "further"]
    assert found.evaluations["good"].evaluation.figures["accuracy"].value == 1.0
    # Light pictures run from 130 on in steps of 6: 4 are below 0.6 * 255 = 153, and 13 below 0.8 * 255 = 204.
    counts = {(duel.better, duel.worse): (duel.only_better, duel.only_worse) for duel in found.duels}
    assert counts == {("good", "off"): (4, 0), ("good", "further"): (13, 0), ("off", "further"): (9, 0)}
    exact = [stats.binomtest(0, n, 0.5).pvalue for n in (4, 13, 9)]
    assert [duel.p for duel in found.duels] == pytest.approx(holm(exact).tolist())
    assert found.duels[0].difference == pytest.approx(-4 / 40)
    assert found.duels[0].low < -4 / 40 < found.duels[0].high
    off, further = found.against_best("off"), found.against_best("further")
    assert isinstance(off, Duel)
    assert isinstance(further, Duel)
    assert "good is not shown to be better than off (4 pictures that only it names right against 0" in off.sentence()
    assert "good is better than further" in further.sentence()


def test_the_order_of_the_classes_does_not_matter(models, pictures, tmp_path) -> None:
    turned = save(tmp_path / "turned", 0.5, ("light", "dark"))  # says dark where it is bright: all wrong
    found = compare_models(
        {"turned": artifact.load(turned), "good": artifact.load(models["good"])}, pictures / "plain.csv"
    )
    assert [one.evaluation.figures["accuracy"].value for one in found.evaluations.values()] == [1.0, 0.0]


def test_models_of_different_classes_are_refused_with_the_classes(models, pictures, tmp_path) -> None:
    other = save(tmp_path / "other", 0.5, ("dark", "bright"))
    loaded = {"a": artifact.load(models["good"]), "b": artifact.load(other)}
    with pytest.raises(SettingError, match="only a knows 'light'; only b knows 'bright'"):
        compare_models(loaded, pictures / "plain.csv")
    with pytest.raises(SettingError, match="at least two"):
        compare_models({"a": artifact.load(other)}, pictures / "plain.csv")


def test_pictures_that_change_between_two_models_are_an_error(models, pictures, monkeypatch, tmp_path) -> None:
    from headstart.learn import versus

    seen = []

    def one_fewer(predictor, data, **settings):
        seen.append(predictor)
        frame = pd.read_csv(pictures / "plain.csv").iloc[: 40 - len(seen)]
        return evaluate_on(predictor, frame.assign(path=[str(pictures / name) for name in frame.path]), **settings)

    monkeypatch.setattr(versus, "evaluate_on", one_fewer)
    with pytest.raises(DataError, match="changed while"):
        compare_models({name: artifact.load(models[name]) for name in ("good", "off")}, pictures / "plain.csv")


def test_an_evaluation_has_the_slices_of_the_manifests_columns(models, pictures) -> None:
    found = evaluate_on(artifact.load(models["off"]), pictures / "pictures.csv").slices
    assert found is not None
    # All four mistakes are light pictures below 153, numbers 21 to 24: three by the old camera.
    assert [(row.column, row.value, row.n, row.figures["accuracy"].value) for row in found.rows[:2]] == [
        ("size", "120 to 129", 10, 0.6),
        ("camera", "old", 12, 0.75),
    ]
    assert {row.value for row in found.rows if row.column == "size"} == {
        "100 to 109",
        "110 to 119",
        "120 to 129",
        "130 to 139",
    }
    assert found.left_out == (("id", "none of its 40 values has 10 pictures"),)
    assert found.too_small == ()
    assert evaluate_on(artifact.load(models["off"]), pictures / "plain.csv").slices is None


def test_the_command_measures_one_model_or_compares_several(models, pictures, capsys) -> None:
    data = str(pictures / "pictures.csv")
    good, off = str(models["good"]), str(models["off"])
    main(["evaluate", off, data, "--quiet"])
    said = capsys.readouterr().out
    for words in ("0.900 (", "camera=old", "slices are", "'id' not cut into slices"):
        assert words in said
    main(["evaluate", off, "--on", data, "--json"])
    whole = json.loads(capsys.readouterr().out)
    assert whole["slices"]["slices"][0]["value"] == "120 to 129"
    assert whole["test"]["accuracy"]["value"] == 0.9
    main(["evaluate", off, good, "--on", data, "--quiet"])
    said = capsys.readouterr().out
    assert f"{good} is not shown to be better than {off}" in said
    assert "…" not in said
    main(["evaluate", off, good, "--on", data, "--json"])
    whole = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in whole["models"]] == [good, off]
    assert whole["pairs"][0]["only_better"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["{good}"], "MODEL DATA"), (["{good}", "{off}", "x"], "--on DATA"), (["{good}", "{good}", "--on", "x"], "twice")],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments: list[str], words: str, models, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *(one.format(**models) for one in arguments)])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
