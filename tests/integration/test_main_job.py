"""The main job on real pictures and real weights: folder in, tested model folder out, the same numbers everywhere."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from odd_pictures import odd_pictures
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

import headstart
from headstart import ImageClassifier
from headstart.cli import app
from headstart.core.errors import DataError, ModelError, SettingError
from headstart.core.progress import Progress
from headstart.learn.features import extract, memory


@pytest.fixture(scope="module")
def hymenoptera_model(hymenoptera, tmp_path_factory) -> ImageClassifier:
    return ImageClassifier(method="frozen").fit(hymenoptera, out=tmp_path_factory.mktemp("models") / "ants-and-bees")


@pytest.fixture(scope="module")
def folder_of(hymenoptera_model):
    return hymenoptera_model.predictor_.network_file.parent


def test_ants_and_bees_are_told_apart_on_untouched_pictures(hymenoptera_model, hymenoptera) -> None:
    accuracy = hymenoptera_model.test_.figures["accuracy"]
    assert hymenoptera_model.test_.n == sum(1 for _ in (hymenoptera / "val").rglob("*.jpg"))
    assert accuracy.value > 0.9
    assert accuracy.low < accuracy.value < accuracy.high
    assert hymenoptera_model.test_.majority < 0.6


def test_the_reported_figure_is_that_of_the_saved_model(hymenoptera_model, hymenoptera, folder_of) -> None:
    predictor = headstart.load(folder_of)
    pictures = sorted((hymenoptera / "val").rglob("*.jpg"))
    right = np.mean(predictor.predict(pictures) == [path.parent.name for path in pictures])
    assert right == pytest.approx(hymenoptera_model.test_.figures["accuracy"].value)
    assert hymenoptera_model.score(hymenoptera / "val") == pytest.approx(right)


def test_the_model_folder_holds_what_the_design_says(folder_of) -> None:
    names = {path.name for path in folder_of.iterdir()}
    assert {"model.json", "model.onnx", "weights.safetensors"} <= names
    description = json.loads((folder_of / "model.json").read_text())
    assert description["classes"] == ["ants", "bees"]
    assert description["parameters"]["backbone"] == "efficientnet_lite0"
    assert description["test"]["n"] == 153
    assert len(description["data"]["fingerprint"]) == 64
    assert {"torch", "openvino", "headstart"} <= set(description["versions"])


def test_odd_pictures_get_the_same_probabilities_from_training_path_and_export(hymenoptera_model, folder_of) -> None:
    from safetensors.torch import load_file
    from torch import nn

    from headstart.networks import load_backbone
    from headstart.networks.export import Classifier

    backbone = load_backbone("efficientnet_lite0")
    network = Classifier(backbone.network, nn.Linear(backbone.num_features, 2))
    tensors = load_file(folder_of / "weights.safetensors")
    bank = tensors.pop("novelty.bank").numpy()
    network.load_state_dict(tensors)
    pictures = list(odd_pictures().values())
    images = torch.from_numpy(np.stack([backbone.preprocessing.load(data) for data in pictures]))
    with torch.inference_mode():
        expected, features = (output.numpy() for output in network.eval()(images))
    saved = headstart.load(folder_of)
    assert np.abs(saved.predict_proba(pictures) - expected).max() < 1e-4
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.sort(unit @ (bank / np.linalg.norm(bank, axis=1, keepdims=True)).T, axis=1)[:, -5:]
    novelty = [prediction.novelty for prediction in saved.stream(pictures)]
    assert np.abs(np.array(novelty) - (1 - nearest.mean(axis=1))).max() < 1e-4


def test_fitting_again_reads_the_cache_and_gives_the_same_model(hymenoptera_model, hymenoptera, tmp_path) -> None:
    again = ImageClassifier(method="frozen").fit(hymenoptera, out=tmp_path / "again", finish=None)
    description = json.loads((tmp_path / "again" / "model.json").read_text())
    assert description["features"]["computed"] == 0
    assert again.test_.figures == hymenoptera_model.test_.figures


def test_added_pictures_cost_only_themselves(class_folders, fresh_cache, tmp_path) -> None:
    from headstart.learn.features.extract import extract
    from headstart.networks import load_backbone

    files = [str(path) for path in sorted(class_folders(per_class=30).rglob("*.jpg"))]
    backbone = load_backbone("efficientnet_lite0", image_size=64)
    assert extract(files[:-3], backbone).computed == len(files) - 3
    assert extract(files, backbone).computed == 3
    assert extract(files[::-1], backbone).computed == 0


@pytest.mark.parametrize("head", ["linear", "mlp", "prototype"])
def test_every_head_learns_generated_kinds_and_is_saved(head: str, class_folders) -> None:
    folder = class_folders(per_class=30)
    epochs = 30 if head == "mlp" else None
    classifier = ImageClassifier(method="frozen", head=head, image_size=64, epochs=epochs).fit(folder, finish=None)
    assert classifier.test_.figures["accuracy"].value > 0.8
    assert list(classifier.classes_) == sorted(path.name for path in folder.iterdir())
    assert np.allclose(classifier.predict_proba(folder).sum(axis=1), 1, atol=1e-5)
    assert (len(classifier.history_) > 0) == (head == "mlp")


class Told(Progress):
    """Keeps what it is told of epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[tuple[dict, int]] = []

    def epoch(self, row, epochs: int) -> None:
        self.epochs.append((dict(row), epochs))


@pytest.mark.parametrize("per_class", [30, 6])  # with validation pictures, and by cross-validation
def test_the_epochs_of_the_head_are_told_once_each_and_are_its_history(per_class: int, class_folders) -> None:
    rows, progress = [], Told()
    settings = {"method": "frozen", "head": "mlp", "image_size": 64, "epochs": 3}
    fitted = ImageClassifier(**settings).fit(
        class_folders(per_class=per_class), finish=None, progress=progress, on_epoch=rows.append
    )
    assert fitted.history_.to_dict("records") == rows
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert ("val_loss" in rows[0]) == (per_class == 30)
    assert progress.epochs == [(row, 3) for row in rows]


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_a_patient_head_is_saved_with_the_epochs_that_validation_preferred(output: str, class_folders) -> None:
    settings = {"method": "frozen", "head": "mlp", "image_size": 64, "learning_rate": 0.01, "output": output}
    settings |= {"precision": "float32"}
    paths = sorted(class_folders(per_class=30).rglob("*.jpg"))
    # Every third label is of the other class: what is learned by heart makes validation worse.
    labels = ["stripes" if (path.parent.name == "dots") == (i % 3 == 0) else "dots" for i, path in enumerate(paths)]
    patient = ImageClassifier(**settings, epochs=100, patience=2).fit(paths, labels, finish=None)
    best = 1 + int(patient.history_.val_loss.argmin())
    assert len(patient.history_) == best + 2 < 100
    assert patient.chosen_["epochs"] == best
    assert any(f"after epoch {best} of {best + 2}" in note for note in patient.notes_)
    # Both heads are those that `best` epochs give: the one that is judged, and the one that is saved.
    told = ImageClassifier(**settings, epochs=best).fit(paths, labels, finish=None)
    assert patient.validation_.figures == told.validation_.figures
    assert np.array_equal(patient.predict_proba(paths), told.predict_proba(paths))


def test_patience_without_validation_pictures_does_nothing_and_that_is_said(class_folders) -> None:
    settings = {"method": "frozen", "head": "mlp", "image_size": 64, "epochs": 3, "patience": 1}
    fitted = ImageClassifier(**settings).fit(class_folders(per_class=6), finish=None)
    assert len(fitted.history_) == 3
    assert any("No pictures are held out for patience" in note for note in fitted.notes_)


def test_the_command_line_prints_and_logs_the_epochs_of_the_head(class_folders, tmp_path, monkeypatch) -> None:
    rows: list[dict] = []
    monkeypatch.setattr("headstart.learn.loggers.make_logger", lambda target: rows.append)
    options = ["--method", "frozen", "--head", "mlp", "--epochs", "3", "--image-size", "64", "--no-report"]
    data = class_folders(per_class=20)
    done = CliRunner().invoke(app, ["fit", str(data), *options, "--log", "x", "--out", str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split("  ")[:2] for line in lines] == [
        [f"epoch {row['epoch']}/3", f"loss {row['loss']:.3f}"] for row in rows
    ]
    assert len(rows) == 3


def test_epochs_without_an_mlp_are_those_of_fine_tuning(class_folders) -> None:
    settings = {"method": "finetune", "unfreeze": "conv_head", "image_size": 64, "precision": "float32"}
    fitted = ImageClassifier(**settings, epochs=3, batch_size=16).fit(class_folders(per_class=20), finish=None)
    assert list(fitted.history_.epoch) == [1, 2, 3]
    with pytest.raises(SettingError, match="neither method frozen nor head linear trains by epochs"):
        ImageClassifier(method="frozen", epochs=3).fit(class_folders(per_class=20))


def test_augmentation_without_views_is_not_lost(class_folders, fresh_cache) -> None:
    folder = class_folders(per_class=30)
    plain, augmented = (
        ImageClassifier(method="frozen", image_size=64, augmentation=policy).fit(folder, finish=None)
        for policy in (None, "strong")
    )
    assert any("seen in 4 views, of which 3 are augmented" in note for note in augmented.notes_)
    assert np.abs(plain.predict_proba(folder) - augmented.predict_proba(folder)).max() > 1e-4


def test_a_data_frame_lists_and_a_manifest_give_the_same_model_as_the_folder(class_folders, tmp_path) -> None:
    folder = class_folders(per_class=30)
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    frame = pd.DataFrame({"path": paths, "label": [path.split("/")[-2] for path in paths]})
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    sources = [(folder, None), (frame, None), (paths, list(frame.label)), (tmp_path / "manifest.csv", None)]
    found = [
        ImageClassifier(method="frozen", image_size=64).fit(data, labels, finish=None).predict_proba(paths)
        for data, labels in sources
    ]
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 1e-4


def test_labels_that_are_numbers_are_classes_in_the_order_of_their_values(class_folders) -> None:
    paths = [str(path) for path in sorted(class_folders(kinds=("checks", "dots", "stripes"), seed=1).rglob("*.jpg"))]
    numbers = np.array([{"checks": 10, "dots": 2, "stripes": 0}[path.split("/")[-2]] for path in paths])
    classifier = ImageClassifier(method="frozen", image_size=64).fit(paths, numbers, finish=None)
    assert classifier.classes_.tolist() == ["0", "2", "10"]
    # scikit-learn takes the columns for the classes in the order of their values.
    assert roc_auc_score(numbers, classifier.predict_proba(paths).astype(np.float64), multi_class="ovr") > 0.95
    expected = np.mean(classifier.predict(paths).astype(int) == numbers)
    assert classifier.score(paths, numbers) == classifier.predictor_.score(paths, numbers) == expected > 0.9
    assert classifier.score(paths, numbers.astype(float)) == expected
    assert classifier.score(paths, np.zeros(len(paths), int)) == pytest.approx(1 / 3, abs=0.1)


def test_labels_that_are_true_or_false_are_two_classes(class_folders) -> None:
    paths = [str(path) for path in sorted(class_folders(per_class=8).rglob("*.jpg"))]
    dotted = np.array(["dots" in path for path in paths])
    classifier = ImageClassifier(method="frozen", image_size=64).fit(paths, dotted, finish=None)
    assert classifier.classes_.tolist() == ["False", "True"]
    assert roc_auc_score(dotted, classifier.predict_proba(paths)[:, 1]) > 0.95
    assert classifier.score(paths, dotted) == np.mean((classifier.predict(paths) == "True") == dotted) > 0.9


def test_few_pictures_are_judged_by_repeated_cross_validation(class_folders) -> None:
    classifier = ImageClassifier(method="frozen", image_size=64).fit(class_folders(per_class=8), finish=None)
    assert classifier.evaluated_by_ == "repeated cross-validation"
    # The saved model learns from all of them: none is set apart.
    assert classifier.counts_ == {"train": classifier.test_.n, "validation": 0, "test": 0}
    assert classifier.predictor_.description["data"]["counts"] == classifier.counts_
    assert classifier.test_.figures["accuracy"].value > 0.7


def test_it_behaves_as_a_scikit_learn_estimator() -> None:
    classifier = ImageClassifier("resnet18", head="mlp", seed=3)
    assert clone(classifier).get_params() == classifier.get_params()
    assert clone(classifier).set_params(seed=4).seed == 4
    with pytest.raises(Exception, match="call fit first"):
        classifier.predict("x.jpg")


def test_features_feed_any_scikit_learn_classifier(class_folders) -> None:
    folder = class_folders(per_class=30)
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    labels = [path.split("/")[-2] for path in paths]
    pipeline = make_pipeline(headstart.FeatureExtractor(image_size=64), LogisticRegression(max_iter=1000))
    assert pipeline.fit(paths, labels).score(paths, labels) == 1.0
    assert headstart.extract_features(paths[:2], image_size=64).shape == (2, 1280)


def test_memory_is_asked_for_before_features_are_computed_and_never_after(
    class_folders, tmp_path, fresh_cache, monkeypatch
) -> None:
    data = class_folders(per_class=30)
    with monkeypatch.context() as patch:
        patch.setattr(extract, "open_engine", lambda *arguments: pytest.fail("an engine was opened"))
        patch.setattr(memory, "free_memory", lambda: 0)
        with pytest.raises(SettingError, match="[0-9]+ pictures x 1 view x 1,280 features take .* GB of memory"):
            ImageClassifier(method="frozen", image_size=64).fit(data)
    free = iter([None])
    monkeypatch.setattr(memory, "free_memory", lambda: next(free, 0))  # the second who asks hears that nothing is left
    fitted = ImageClassifier(method="frozen", image_size=64).fit(data, out=tmp_path / "model")
    assert next(free, "asked") == "asked"
    assert fitted.test_.n


def test_all_impossible_parameters_are_told_at_once(class_folders) -> None:
    with pytest.raises(SettingError) as caught:
        ImageClassifier(method="magic", views=0, test_size=2, precision="half", head="linaer", image_size=3).fit(
            class_folders(per_class=30)
        )
    for words in ("image_size is (3, 3)", "method", "views is 0", "test_size", "precision", "linear"):
        assert words in str(caught.value)


def test_a_foreign_folder_is_not_overwritten_and_nothing_is_computed(class_folders, tmp_path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").touch()
    with pytest.raises(ModelError, match="no model folder"):
        ImageClassifier(method="frozen", image_size=64).fit(class_folders(per_class=30), out=tmp_path / "holiday")


def test_a_picture_that_changes_during_the_run_is_named(class_folders, fresh_cache) -> None:
    from headstart.learn.features.extract import extract
    from headstart.learn.features.pictures import Pictures
    from headstart.networks import load_backbone

    files = [str(path) for path in sorted(class_folders(per_class=30).rglob("*.jpg"))]
    pictures = Pictures.of(files)
    with open(files[1], "ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=f"{files[1]}.*changed"):
        extract(pictures, load_backbone("efficientnet_lite0", image_size=64))
