"""`explain` on saved models: the command, the Python function, and the most similar training pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import headstart
from headstart import ImageClassifier, load
from headstart.cli import app
from headstart.core import artifact, digests
from headstart.core.errors import DataError, ModelError, SettingError
from headstart.core.preprocessing import resize
from headstart.core.progress import Progress
from headstart.face import explain_each
from headstart.learn.methods import choice
from headstart.learn.similar import TrainingPictures
from headstart.networks import load_network
from headstart.use.explain import gradcam, occlusion
from headstart.use.exporters import exporter
from headstart.use.exporters.contract import How


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("explain") / "data"
    for kind in ("dots", "stripes"):
        for index in range(20):
            make_picture(folder / kind / f"{kind}-{index}.jpg", kind, (96, 128), index)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("explain") / "model"
    # In the precision in which the saved model runs, so that cosines can be held against it on every processor.
    ImageClassifier(method="frozen", image_size=64, seed=1, precision="float32").fit(data, out=folder, finish=None)
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def trained_on(model: Path, path: str) -> bool:
    return digests.of_picture(path)[:16] in artifact.read_description(model)["data"]["training_digests"]


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_the_command_writes_an_overlay_a_picture_and_tells_of_each(model, data, tmp_path, method) -> None:
    pictures = sorted((data / "dots").iterdir())[:2]
    done = run(model, *pictures, "--out", tmp_path / "out", "--json", "--method", method)
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = load(model).predict_proba(pictures)
    for row, picture, probabilities in zip(rows, pictures, expected, strict=True):
        assert row["path"] == str(picture)
        assert row["label"] == row["class"] == load(model).classes[probabilities.argmax()]
        assert row["probability"] == pytest.approx(float(probabilities.max()), abs=1e-4)
        assert row["method"] == method
        # Where nothing speaks for the class there is no strongest place.
        assert row["peak"] is None or all(0 <= share <= 1 for share in row["peak"])
        with Image.open(row["overlay"]) as drawn:
            assert drawn.size == (128, 96)
            assert np.abs(np.asarray(drawn, int) - np.asarray(Image.open(picture), int)).mean() > 5


def test_a_picture_that_is_answered_with_unknown_is_explained_as_unknown(model, data, tmp_path) -> None:
    foreign = tmp_path / "foreign.png"
    Image.new("RGB", (96, 96), (255, 0, 255)).save(foreign)
    known = data / "dots" / "dots-0.jpg"
    predictor = load(model)
    answers = [predictor.answer(one) for one in predictor.stream([known, foreign])]
    assert [one.unknown for one in answers] == [False, True]
    lines = run(model, known, foreign, "--out", tmp_path / "out").stdout.splitlines()
    assert lines[0].startswith(f"{known}  dots ")
    assert lines[1].startswith(f"{foreign}  unknown, nearest: {answers[1].label} ")


def test_pictures_of_the_same_name_do_not_overwrite_each_other_or_anything_else(model, data, tmp_path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(data / "dots" / "dots-0.jpg", tmp_path / folder / "same.jpg")
    before = (tmp_path / "a" / "same.jpg").read_bytes()
    done = run(model, tmp_path / "a", tmp_path / "b", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["same-heat-2.png", "same-heat.png", "same.jpg"]
    assert (tmp_path / "a" / "same.jpg").read_bytes() == before


def test_a_picture_with_a_very_long_name_does_not_stop_the_others(model, data, tmp_path) -> None:
    pictures = [tmp_path / "in" / ("ü" * 120 + ".jpg"), tmp_path / "in" / "z.jpg"]
    pictures[0].parent.mkdir()
    for picture in pictures:
        shutil.copy(next(data.rglob("*.jpg")), picture)
    done = CliRunner().invoke(
        app, ["explain", str(model), *map(str, pictures), "--method", "occlusion", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["z-heat.png", "ü" * 100 + "-heat.png"]


def test_a_broken_picture_is_said_the_others_go_on_and_the_exit_code_is_1(model, data, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes((data / "dots" / "dots-0.jpg").read_bytes()[:300])
    done = run(model, tmp_path / "broken.jpg", data / "dots" / "dots-1.jpg", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 1
    assert "broken.jpg: " in done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first.keys() == {"path", "error"}
    assert second["label"]
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_what_cannot_be_explained_is_one_clear_error(model, data, tmp_path, monkeypatch) -> None:
    picture = data / "dots" / "dots-0.jpg"
    with pytest.raises(SettingError, match="unknown class 'dot': did you mean 'dots'"):
        headstart.explain(model, picture, target="dot")
    with pytest.raises(SettingError, match="unknown method 'gradcm': did you mean 'gradcam'"):
        headstart.explain(model, picture, method="gradcm")
    with pytest.raises(SettingError, match="count is 0"):
        headstart.explain(model, picture, data=data, count=0)
    with pytest.raises(ModelError, match="no model folder"):
        headstart.explain(tmp_path, picture)
    (tmp_path / "file").touch()
    done = run(model, picture, "--out", tmp_path / "file" / "out")
    assert isinstance(done.exception, SettingError)
    assert "cannot be written" in str(done.exception)
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "captum" else real(name))
    with pytest.raises(SettingError, match="captum is not installed: choose occlusion"):
        headstart.explain(model, picture, method="gradcam")
    assert headstart.explain(model, picture)[0].method == "occlusion"


def test_a_model_without_its_weights_is_explained_by_occlusion_alone(model, data, tmp_path) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / artifact.WEIGHTS).unlink()
    picture = data / "dots" / "dots-0.jpg"
    with pytest.raises(ModelError, match=r"weights.safetensors cannot be read"):
        headstart.explain(tmp_path / "model", picture, method="gradcam")
    (one,) = headstart.explain(tmp_path / "model", picture)
    assert (one.error, one.method) == (None, "occlusion")
    assert one.heat.shape == (96, 128)
    assert np.isnan(one.heat[0]).all()  # the crop leaves it out


@pytest.mark.parametrize("form", ["onnx", "openvino", "bundle"])
def test_an_exported_model_is_explained_by_occlusion_which_needs_no_torch_network(form, model, data, tmp_path) -> None:
    exporter(form).export(load(model), tmp_path, How())
    done = run(tmp_path, data / "dots" / "dots-0.jpg", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["method"] == "occlusion"
    with pytest.raises(ModelError, match="no model folder"):
        headstart.explain(tmp_path, data / "dots" / "dots-0.jpg", method="gradcam")


def test_after_fit_the_most_similar_training_pictures_come_from_the_cache(model, data) -> None:
    predictor, progress = load(model), Progress()
    training = TrainingPictures(predictor, data, progress=progress)
    assert progress.seconds == {}  # nothing was computed
    assert len(training.paths) == len(artifact.read_description(model)["data"]["training_digests"])
    assert all(trained_on(model, path) for path in training.paths)
    test = next(str(path) for path in sorted(data.rglob("*.jpg")) if not trained_on(model, str(path)))
    (one,) = headstart.explain(model, test, data=data, count=4)
    rows = predictor.extract_features([*training.paths, test])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows[:-1] @ rows[-1]
    order = np.argsort(-cosines)[:4]
    assert [path for path, _, _ in one.similar] == [training.paths[row] for row in order]
    assert [label for _, label, _ in one.similar] == [Path(training.paths[row]).parent.name for row in order]
    assert np.abs(np.array([cosine for _, _, cosine in one.similar]) - cosines[order]).max() < 1e-4
    own = headstart.explain(model, training.paths[7], data=data)[0].similar[0]
    assert own[0] == training.paths[7]
    assert own[2] == pytest.approx(1, abs=1e-2)


def test_a_fine_tuned_model_computes_its_own_features_once(data, tmp_path, fresh_cache, monkeypatch) -> None:
    monkeypatch.setattr(choice, "is_better", lambda new, old: True)
    training = {"epochs": 1, "unfreeze": 4, "learning_rate": 0.01}
    ImageClassifier(method="finetune", image_size=64, training=training).fit(data, out=tmp_path / "model", finish=None)
    predictor = load(tmp_path / "model")
    first, second = Progress(), Progress()
    found = TrainingPictures(predictor, data, progress=first)
    again = TrainingPictures(predictor, data, progress=second)
    picture = str(data / "dots" / "dots-3.jpg")
    features = predictor.extract_features(picture)[0]
    assert "extract" not in second.seconds
    assert found.most_similar(features) == again.most_similar(features)
    rows = predictor.extract_features(list(found.paths))
    cosines = rows @ features / np.linalg.norm(rows, axis=1) / np.linalg.norm(features)
    assert found.most_similar(features)[0].similarity == pytest.approx(cosines.max(), abs=1e-4)


def test_progress_is_shown_the_features_that_are_not_in_the_cache(model, data, fresh_cache) -> None:
    first, second = Progress(), Progress()
    for progress in (first, second):
        (one,) = headstart.explain(
            model, data / "dots" / "dots-0.jpg", data=data, method="occlusion", progress=progress
        )
        assert len(one.similar) == 5
    assert ("extract" in first.seconds, "extract" in second.seconds) == (True, False)


def test_pictures_are_explained_as_they_are_asked_for_and_what_is_wrong_otherwise_is_said_at_once(model, data) -> None:
    taken = []

    def pictures() -> Iterator[Path]:
        for picture in sorted((data / "dots").iterdir())[:3]:
            taken.append(picture)
            yield picture

    each = explain_each(model, pictures(), method="occlusion")
    assert taken == []
    assert next(each).name == str(taken[0])
    assert len(taken) == 1
    with pytest.raises(SettingError, match="unknown class"):
        explain_each(model, pictures(), target="dot")


def test_data_that_the_model_was_not_fitted_on_are_refused(model, tmp_path, make_picture) -> None:
    for kind in ("dots", "stripes"):
        make_picture(tmp_path / "other" / kind / "1.jpg", kind, seed=99)
    with pytest.raises(DataError, match="holds none of the .* pictures that the model was trained on"):
        TrainingPictures(load(model), tmp_path / "other")


def test_on_two_real_pictures_side_by_side_the_heat_is_on_the_one_that_is_asked_for(hymenoptera, tmp_path) -> None:
    """The grid pointing game of Böhle et al. 2021 (arXiv:2104.00032), with ants on one side and bees on the other."""
    ImageClassifier(method="frozen", seed=1).fit(hymenoptera, out=tmp_path / "model", finish=None)
    predictor, network = load(tmp_path / "model"), load_network(tmp_path / "model")
    sure = {}
    for column, kind in enumerate(predictor.classes):
        paths = sorted((hymenoptera / "val" / kind).iterdir())[:20]
        sure[kind] = [paths[row] for row in np.argsort(-predictor.predict_proba(paths)[:, column])[:4]]
    images = np.full((4, 256, 256, 3), 128, np.uint8)
    for image, *pair in zip(images, *sure.values(), strict=True):
        for side, path in enumerate(pair):
            image[64:192, 128 * side : 128 * (side + 1)] = resize(
                predictor.preprocessing.load(path.read_bytes()), (128, 128)
            )
    for target in (0, 1):
        targets = np.full(4, target)
        for heat in (
            gradcam.heat_maps(network, images, targets),
            occlusion.heat_maps(predictor, images, targets),
        ):
            halves = np.stack([heat[:, :, :128].sum((1, 2)), heat[:, :, 128:].sum((1, 2))], axis=1)
            assert (halves[:, target] / halves.sum(axis=1)).mean() > 0.75
