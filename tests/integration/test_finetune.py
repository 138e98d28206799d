"""Fine-tuning end to end on small pictures: the cache changes nothing, frozen is frozen, and never worse."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_backbones import tiny_backbone
from torch.nn import functional

from headstart import ImageClassifier
from headstart.core import settings as environment
from headstart.core.errors import CacheError, DataError, SettingError, TrainingError
from headstart.core.progress import Progress
from headstart.learn import augment, cache
from headstart.learn.augment import make_augmentation
from headstart.learn.cache import clear
from headstart.learn.features import extract as extraction
from headstart.learn.features.engines import OpenVINOEngine, TorchEngine, graph_file
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.features.pictures import Pictures
from headstart.learn.finetune import estimate, loop, precision
from headstart.learn.finetune import source as sources
from headstart.learn.finetune.estimate import parse_seconds
from headstart.learn.finetune.job import put_back
from headstart.learn.finetune.loss import scaled_weights
from headstart.learn.finetune.source import CachedSource, LiveSource, Source, open_sources
from headstart.learn.finetune.task import identity
from headstart.learn.methods import choice
from headstart.learn.methods import finetune as method
from headstart.networks import faster, load_backbone, prefix
from headstart.networks.freezing import hash_tensors, tensor_hash


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_picture) -> Path:
    """Two kinds of 20 pictures each, which several tests learn from."""
    folder = tmp_path_factory.mktemp("twenty")
    for kind in ("dots", "stripes"):
        for index in range(20):
            make_picture(folder / kind / f"{kind}-{index:03}.jpg", kind, seed=index)
    return folder


@pytest.fixture(scope="module")
def frozen(folder) -> ImageClassifier:
    return fit(folder, method="frozen")


@pytest.fixture
def pictures(class_folders) -> Pictures:
    return Pictures.of([str(path) for path in sorted(class_folders(per_class=5).rglob("*.jpg"))])


@pytest.fixture
def lite0():
    return load_backbone("efficientnet_lite0", image_size=64)


def fit(folder, training=None, out=None, on_epoch=None, **parameters) -> ImageClassifier:
    parameters = {"method": "finetune", "image_size": 64, "precision": "float32", **parameters}
    if parameters["method"] != "frozen":
        parameters["training"] = training or {"epochs": 2}
    return ImageClassifier(**parameters).fit(folder, out=out, on_epoch=on_epoch, finish=None)


def model_folder(classifier: ImageClassifier):
    return classifier.predictor_.network_file.parent


def weights(classifier: ImageClassifier) -> dict[str, torch.Tensor]:
    return load_file(model_folder(classifier) / "weights.safetensors")


# Sources


def test_cached_live_and_eager_prefixes_give_the_same_inputs(pictures, lite0, fresh_cache) -> None:
    how = FeatureSettings(views=2, augmentation=make_augmentation("standard"), precision="float32")
    cached, _ = open_sources(pictures, pictures, lite0, how, "blocks.5", Progress())
    assert isinstance(cached, CachedSource)
    below = prefix(lite0, "blocks.5")
    openvino = OpenVINOEngine(graph_file(below, "test", (64, 64)), "float32")
    rows = [np.array([7, 0, 3, 1, 9]), np.array([2])]
    for view in (0, 1, 2, 3):
        expected = list(cached.batches(rows, view))
        for engine, within in ((openvino, 0.0), (TorchEngine(below, "cpu"), 1e-3)):
            found = list(LiveSource(pictures, lite0, how, engine).batches(rows, view))
            for a, b in zip(found, expected, strict=True):
                assert a.shape == b.shape
                assert np.abs(a - b).max() <= within
    first, second = (np.concatenate(list(cached.batches(rows, view))) for view in (0, 1))
    assert np.abs(first - second).max() > 0.1  # view 1 is augmented
    assert all(np.array_equal(a, b) for a, b in zip(cached.batches(rows, 1), cached.batches(rows, 3), strict=True))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
def test_what_an_engine_gives_does_not_depend_on_its_batch(name: str, tmp_path, fresh_cache) -> None:
    backbone = tiny_backbone(name, tmp_path)
    engine = OpenVINOEngine(graph_file(backbone.network, name, (32, 32)), "float32")
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    whole = np.concatenate([engine.run(images[:4]), engine.run(images[4:])])
    for rows in ([0], [6, 0], [5, 1, 3], [3, 2, 1, 0], [1, 4, 6, 2]):
        assert np.array_equal(engine.run(images[rows]), whole[rows])


def test_pixels_are_the_views_and_validation_is_plain(pictures, lite0) -> None:
    how = FeatureSettings(views=2, augmentation=make_augmentation("strong"))
    train, validation = open_sources(pictures, pictures, lite0, how, lite0.stages[0], Progress())
    rows = [np.arange(4)]
    plain = np.stack([lite0.preprocessing.load(Path(path).read_bytes()) for path in pictures.items[:4]])
    assert train.kind == validation.kind == "pixels"
    for view in range(3):
        assert np.array_equal(next(iter(validation.batches(rows, view))), plain)
        assert np.array_equal(next(iter(train.batches(rows, view))), plain) == (view % 2 == 0)


@pytest.mark.parametrize("cause", ["limit", "full", "runs"])
def test_what_does_not_fit_the_cache_is_computed_again_and_that_is_said(
    cause: str, pictures, lite0, fresh_cache, monkeypatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "100K" if cause == "limit" else "1M")
    if cause == "full":  # the estimate says that it fits, and the file is full none the less
        monkeypatch.setattr(sources, "_bytes", lambda *arguments: 0)
    if cause == "runs":  # a checkpoint, which is not deleted for it, takes its place
        monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "100M")
        (fresh_cache / "runs" / "one").mkdir(parents=True)
        with (fresh_cache / "runs" / "one" / "checkpoint.pt").open("wb") as file:
            file.truncate(100 * 1024**2 - 100_000)
    progress = Progress()
    how = FeatureSettings(views=4, augmentation=make_augmentation("flip"), precision="float32")
    train, validation = open_sources(pictures, pictures, lite0, how, "blocks.1", progress)
    assert train.kind == validation.kind == "prefix"
    assert validation.views == 1
    (note,) = progress.notes
    assert "The activations below blocks.1 cannot be cached" in note
    assert "HEADSTART_CACHE_LIMIT" in note
    assert ("checkpoints and the like leave" in note) == (cause == "runs")
    assert environment.cache_limit() <= (1024**2 if cause != "runs" else 100 * 1024**2)
    assert next(iter(train.batches([np.arange(3)], 1))).shape == (3, 16, 32, 32)


@pytest.mark.parametrize(("device", "workers"), [("cpu", 4), ("cuda", 8), ("mps", 8)])
def test_pixels_are_decoded_on_the_cores_that_training_leaves(
    device: str, workers: int, pictures, lite0, monkeypatch
) -> None:
    monkeypatch.setattr(sources, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    asked, map_ordered = [], sources.map_ordered
    monkeypatch.setattr(
        sources, "map_ordered", lambda *given, workers: asked.append(workers) or map_ordered(*given, workers=workers)
    )
    train, _ = open_sources(pictures, pictures, lite0, FeatureSettings(device=device), lite0.stages[0], Progress())
    assert len(next(iter(train.batches([np.arange(4)], 0)))) == 4
    assert asked == [workers]


@pytest.mark.parametrize("held", [False, True], ids=["one after the other", "side by side"])
def test_the_views_of_an_earlier_seed_go_where_those_of_another_need_their_room(
    held: bool, pictures, lite0, fresh_cache, monkeypatch
) -> None:
    cut, augmentation, progress = "blocks.1", make_augmentation("flip"), Progress()

    def opened(seed: int) -> tuple[Source, Source]:
        how = FeatureSettings(views=4, augmentation=augmentation, seed=seed, precision="float32")
        return open_sources(pictures, pictures, lite0, how, cut, progress)

    def seen(source: Source) -> np.ndarray:
        return np.concatenate([next(iter(source.batches([np.arange(10)], view))) for view in range(4)])

    sides = [opened(0)]
    expected = seen(sides[0][0])
    if not held:
        sides.clear()
    (size,) = [space.size for space in cache.list_spaces()]
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", str(int(1.5 * size) + sum(cache.other_sizes().values())))
    train, validation = opened(1)
    assert train.kind == validation.kind == ("prefix" if held else "cache")
    assert len(progress.notes) == held
    assert np.array_equal(seen(train)[:10], expected[:10])  # the plain view
    assert not np.array_equal(seen(train), expected)
    assert sum(space.size for space in cache.list_spaces()) <= 1.55 * size
    if held:
        assert np.array_equal(seen(sides[0][0]), expected)


def test_a_precision_that_is_refused_is_refused_once(pictures, lite0, monkeypatch) -> None:
    asked = []

    def refusing(pictures, backbone, how, **named):
        asked.append(how.precision)
        return extraction.Features(None, (), "float32", 0, "openvino")

    monkeypatch.setattr(sources, "extract", refusing)
    open_sources(pictures, pictures, lite0, FeatureSettings(precision="bfloat16"), "blocks.5", Progress())
    assert asked == ["bfloat16", "float32"]


def test_a_picture_that_changes_while_training_is_named(pictures, lite0) -> None:
    train, _ = open_sources(pictures, pictures, lite0, FeatureSettings(), lite0.stages[0], Progress())
    with open(pictures.items[2], "ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=f"{pictures.items[2]} changed"):
        list(train.batches([np.arange(4)], 0))


# The whole


def test_the_prefix_cached_computed_in_place_or_by_torch_gives_the_same_losses(folder, monkeypatch) -> None:
    histories, kinds = [], []
    make_job = method.make_job

    def watched(task, progress):
        job, settings = make_job(task, progress)
        kinds.append(
            type(job.train).__name__ + ("" if not isinstance(job.train, LiveSource) else job.train.engine.name)
        )
        return job, settings

    monkeypatch.setattr(method, "make_job", watched)
    settings = {"epochs": 3, "batch_size": 8, "mixup": 0.2, "unfreeze": "blocks.6", "precision": "float32"}
    for how in ("cache", "openvino", "torch"):
        with monkeypatch.context() as patch:
            if how != "cache":
                patch.setattr(sources, "_bytes", lambda *arguments: 10**15)
            if how == "torch":
                patch.setattr(
                    sources,
                    "open_engine",
                    lambda pictures, backbone, how, cut, progress: (TorchEngine(prefix(backbone, cut), "cpu"), False),
                )
            histories.append(fit(folder, settings, views=2, augmentation="standard").history_)
    assert kinds == ["CachedSource", "LiveSourceopenvino", "LiveSourcetorch"]
    for other in histories[1:]:
        for column in ("loss", "val_loss"):
            assert np.abs(other[column] - histories[0][column]).max() < 1e-4
    assert np.array_equal(histories[1].loss, histories[0].loss)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, make_picture) -> ImageClassifier:
    folder = tmp_path_factory.mktemp("tuned")
    for kind in ("dots", "stripes", "checks"):
        for index in range(25):
            make_picture(folder / "data" / kind / f"{index}.jpg", kind, (96, 128), index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "paired_permutation", lambda *changes: 0.01)
        patch.setattr(choice, "is_better", lambda new, old: True)
        training = {"epochs": 2, "unfreeze": 4, "batch_norm": "train", "learning_rate": 0.01}
        return fit(folder / "data", training, augmentation="flip", out=folder / "model", class_weight="balanced")


def test_the_saved_network_is_the_pretrained_one_but_for_what_was_unfrozen(tuned, lite0) -> None:
    before, after = lite0.network.state_dict(), weights(tuned)
    own = [name for name, module in lite0.network.named_modules() if module._parameters]
    unfrozen = set(own[-4:])
    moved = {name for name in before if not torch.equal(before[name], after[f"backbone.{name}"])}
    assert moved == {name for name in before if name.rpartition(".")[0] in unfrozen}


def test_no_normalisation_runs_while_training_and_the_network_is_itself_again_afterwards(folder, monkeypatch) -> None:
    norms, networks, take_step, batch_norm = [], [], loop.take_step, functional.batch_norm

    def watched(training, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(functional, "batch_norm", lambda *given: norms.append(given) or batch_norm(*given))
            take_step(training, *arguments)
        networks.append(training.job.network)

    monkeypatch.setattr(loop, "take_step", watched)
    fit(folder, {"epochs": 1, "unfreeze": "blocks.6", "batch_size": 16})
    assert len(networks) == 2
    assert not norms
    own = [set(part.__dict__) & {"forward", "_folded_norm", "_was_in_place"} for part in networks[0].modules()]
    assert not any(own)


def test_the_model_says_what_moved_how_far_and_what_it_gained(tuned) -> None:
    said = json.loads((model_folder(tuned) / "model.json").read_text())
    table = {row["stage"]: row for row in said["finetuning"]["moved"]}
    assert list(table) == [*load_backbone("efficientnet_lite0", blank=True).stages, "head"]
    assert {stage for stage, row in table.items() if not row["untouched"]} == {"blocks.6", "conv_head", "head"}
    assert all((row["moved"] == 0) == row["untouched"] for row in table.values())
    gain = said["finetuning"]["gain"]
    assert set(gain) == {
        "figure", "frozen", "finetuned", "p", "test", "n", "kept", "precision", "epochs",
        "best_epoch", "frozen_tensors", "frozen_hash",
    }  # fmt: skip
    assert said["head"]["chosen"]["unfreeze"] == 4
    (note,) = [note for note in tuned.notes_ if "p = 0.01" in note]
    rows = tuned.history_[tuned.history_["stage"] == "finetune"]
    best = rows.set_index("epoch").loc[gain["best_epoch"]]
    assert best.val_weighted_accuracy == pytest.approx(gain["finetuned"])
    assert f"backbone of epoch {gain['best_epoch']} is kept" in note
    assert note.startswith("Fine-tuning: validation balanced accuracy ")  # class weights are balanced
    assert gain["finetuned"] == pytest.approx(tuned.validation_.figures["balanced_accuracy"].value)
    assert gain["finetuned"] == pytest.approx(tuned.history_.val_weighted_accuracy.max())
    assert "(permutation p = 0.01: chance alone seldom does that; the epoch was chosen on these pictures)" in note
    assert list(tuned.history_.epoch) == [1, 2]


def test_the_checkpoint_is_gone_once_the_model_is_written(tuned) -> None:
    assert not list((environment.cache_folder() / "runs").glob("*"))


def test_a_tuned_model_that_is_not_better_is_not_kept_and_every_bit_is_that_of_the_frozen_one(folder, frozen) -> None:
    # A rate that ruins the features, but slowly enough to be no error.
    worse = fit(folder, {"epochs": 1, "unfreeze": "all", "learning_rate": 0.03, "backbone_learning_rate": 0.03})
    assert worse.validation_.figures == frozen.validation_.figures
    assert any("the frozen backbone is kept" in note for note in worse.notes_)
    a, b = weights(worse), weights(frozen)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (model_folder(worse) / "model.onnx").read_bytes() == (model_folder(frozen) / "model.onnx").read_bytes()
    said = json.loads((model_folder(worse) / "model.json").read_text())["finetuning"]
    assert said["gain"]["kept"] is False
    assert said["moved"] == []


def test_a_layer_that_moves_though_it_is_frozen_stops_everything(class_folders, monkeypatch, tmp_path) -> None:
    train = method.train

    def disturb(job, *arguments, **named):
        result = train(job, *arguments, **named)
        for name, tensor in result.best.items():
            if name == "0.blocks_6.0.conv_pw.weight":
                tensor.view(-1)[0] += 1e-6
        return result

    monkeypatch.setattr(method, "train", disturb)
    with pytest.raises(TrainingError, match="should stay frozen have changed"):
        fit(class_folders(per_class=20), {"epochs": 1, "unfreeze": 4}, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_gradual_schedule_starts_with_the_head_alone(class_folders) -> None:
    classifier = fit(class_folders(per_class=20), {"unfreeze": [("head", 1), ("conv_head", 1)], "patience": 1})
    assert len(classifier.history_) == 2
    assert classifier.history_.learning_rate.nunique() == 1  # each of the two has the whole schedule


def test_the_epochs_of_the_head_come_first_in_the_history(folder, tmp_path) -> None:
    frozen = fit(folder, method="frozen", head="mlp", epochs=3)
    rows = []
    settings = {"epochs": 2, "unfreeze": "conv_head"}
    tuned = fit(folder, settings, head="mlp", epochs=3, out=tmp_path / "model", on_epoch=rows.append)
    assert [row["stage"] for row in rows] == tuned.history_.stage.tolist()
    assert [row["loss"] for row in rows] == tuned.history_.loss.tolist()
    assert list(tuned.history_.stage) == ["head"] * 3 + ["finetune"] * 2
    assert list(tuned.history_.epoch) == [1, 2, 3, 1, 2]
    for name in frozen.history_:
        assert tuned.history_[name][:3].tolist() == frozen.history_[name].tolist()
    assert tuned.history_.learning_rate.isna().tolist() == [True] * 3 + [False] * 2
    written = pd.read_csv(tmp_path / "model" / "history.csv")
    pd.testing.assert_frame_equal(written, tuned.history_)


def test_the_hash_of_what_was_frozen_is_that_of_the_pretrained_tensors(tuned, lite0) -> None:
    gain = json.loads((model_folder(tuned) / "model.json").read_text())["finetuning"]["gain"]
    own = [name for name, module in lite0.network.named_modules() if module._parameters]
    kept = {
        name: tensor for name, tensor in lite0.network.state_dict().items() if name.rpartition(".")[0] not in own[-4:]
    }
    assert gain["frozen_tensors"] == len(kept)
    assert gain["frozen_hash"] == hash_tensors(kept)[:12]
    after = weights(tuned)
    assert gain["frozen_hash"] == hash_tensors({name: after[f"backbone.{name}"] for name in kept})[:12]


def test_the_frozen_start_is_what_method_frozen_makes_of_the_same_options(folder, monkeypatch) -> None:
    starts = []
    monkeypatch.setattr(method, "finetune", lambda task, *arguments: starts.append(task) or task.start)
    seen = []
    for options in (
        {},
        {"views": 3, "augmentation": "standard"},
        {"augmentation": "standard"},
        {"augmentation": "standard", "unfreeze": "all"},
    ):
        start = fit(folder, {"epochs": 5}, head="mlp", epochs=3, **options)
        alike = {name: value for name, value in options.items() if name != "unfreeze"}
        frozen = fit(folder, method="frozen", head="mlp", epochs=3, **alike)
        seen.append((starts[-1].setup.features.views, starts[-1].course.features.views))
        assert (model_folder(start) / "model.onnx").read_bytes() == (model_folder(frozen) / "model.onnx").read_bytes()
    # Of the start, which has three epochs, and of training, which has five.
    assert seen == [(1, 1), (3, 3), (3, 4), (3, 5)]
    assert [identity(task)["start_views"] for task in starts] == [1, 3, 3, 3]


# What fails, and what was forgotten

EXPLODING = {"epochs": 2, "learning_rate": 100.0, "warmup": 0.0, "clip_norm": 0.0, "schedule": "constant"}


def test_auto_keeps_the_frozen_backbone_when_fine_tuning_explodes(folder, frozen, fresh_cache) -> None:
    kept = fit(folder, EXPLODING, method="auto", budget="10h")
    (note,) = [note for note in kept.notes_ if "failed" in note]
    assert note.startswith("Fine-tuning failed, and the frozen backbone is kept: the ")
    assert "lower learning_rate (now 100)" in note
    description = json.loads((model_folder(kept) / "model.json").read_text())
    assert "lower learning_rate (now 100)" in description["finetuning"]["failed"]
    assert "(fine-tuning was tried, and failed)" in (model_folder(kept) / "README.md").read_text()
    assert all(torch.equal(tensor, weights(frozen)[name]) for name, tensor in weights(kept).items())
    assert kept.validation_.figures == frozen.validation_.figures
    with pytest.raises(TrainingError, match=r"lower learning_rate \(now 100\)"):
        fit(folder, EXPLODING)


BURSTING = {"epochs": 3, "batch_size": 8, "unfreeze": "conv_head", "checkpoint_seconds": 0.0}


def failing_after(steps: int, monkeypatch, error: BaseException) -> None:
    """Let so many steps be taken before one fails."""
    take_step, left = loop.take_step, [steps]

    def fail(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", fail)


def test_auto_lets_through_what_the_users_own_callback_raises(folder, fresh_cache) -> None:
    def stop(row: dict[str, float]) -> None:
        raise LookupError(f"enough after epoch {row['epoch']}")

    parameters = {"image_size": 64, "precision": "float32", "training": BURSTING, "method": "auto"}
    with pytest.raises(LookupError, match="enough after epoch 1"):
        ImageClassifier(**parameters).fit(folder, on_epoch=stop, finish=None)


def fit_and_listen(folder, *, resume: bool = False, **parameters) -> Progress:
    progress = Progress()
    parameters = {"image_size": 64, "precision": "float32", "training": BURSTING, "method": "auto", **parameters}
    ImageClassifier(**parameters).fit(folder, resume=resume, progress=progress, finish=None)
    return progress


def test_auto_that_failed_leaves_no_checkpoint_to_be_resumed_and_the_report_tells_of_it(
    folder, fresh_cache, monkeypatch
) -> None:
    failing_after(6, monkeypatch, TrainingError("the loss became nan."))
    progress = fit_and_listen(folder)
    assert "Fine-tuning failed, and the frozen backbone is kept: the loss became nan." in progress.reported
    assert not list((fresh_cache / "runs").glob("*"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be …"),
            "RuntimeError: CUDA error: an illegal memory access was encountered. Nobody foresaw that. Please report",
        ),
        (NotImplementedError("The operator 'aten::x' is not there."), "NotImplementedError: The operator 'aten::x' is"),
        (ValueError("0 is no size"), "ValueError: 0 is no size. Nobody"),
        (AssertionError(), "AssertionError: without a word. Nobody foresaw that. Please report it with all that the"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_auto_keeps_the_frozen_backbone_whatever_fails_and_says_how_to_report_it(
    error: Exception, said: str, folder, frozen, fresh_cache, monkeypatch
) -> None:
    failing_after(6, monkeypatch, error)
    kept = fit(folder, BURSTING, method="auto")
    (note,) = [note for note in kept.notes_ if "failed" in note]
    assert note.startswith(f"Fine-tuning failed, and the frozen backbone is kept: {said}")
    assert "--method finetune" in note
    assert json.loads((model_folder(kept) / "model.json").read_text())["finetuning"]["failed"] in note
    assert all(torch.equal(tensor, weights(frozen)[name]) for name, tensor in weights(kept).items())
    assert not list((fresh_cache / "runs").glob("*"))
    failing_after(0, monkeypatch, error)
    with pytest.raises(type(error)) as raised:
        fit(folder, BURSTING)
    assert raised.value is error


@pytest.mark.parametrize(
    "error", [SettingError("unfreeze."), DataError("a.jpg changed."), KeyboardInterrupt(), SystemExit(1)], ids=repr
)
def test_auto_ends_with_what_the_user_is_to_mend_or_has_asked_for(error, folder, fresh_cache, monkeypatch) -> None:
    failing_after(0, monkeypatch, error)
    with pytest.raises(type(error)) as raised:
        fit_and_listen(folder)
    assert raised.value is error


def test_a_backbone_is_put_back_though_its_device_lets_nobody_touch_what_is_there(lite0) -> None:
    before = copy.deepcopy(lite0.network)
    lite0.network.to("meta")  # nothing can be copied from there, nor into it
    put_back(lite0, before)
    assert tensor_hash(lite0.network) == tensor_hash(load_backbone("efficientnet_lite0", image_size=64).network)
    assert not any(parameter.requires_grad for parameter in lite0.network.parameters())


def test_auto_that_fails_loses_nothing_of_an_earlier_run_that_was_further(folder, fresh_cache, monkeypatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        failing_after(6, patch, KeyboardInterrupt())
        fit_and_listen(folder)
    with monkeypatch.context() as patch:
        failing_after(1, patch, torch.OutOfMemoryError("CUDA out of memory."))
        assert any("memory is short" in note for note in fit_and_listen(folder).reported)
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="The last checkpoint is kept"):
        failing_after(0, patch, torch.OutOfMemoryError("CUDA out of memory."))
        fit_and_listen(folder, resume=True)
    assert any(note.startswith("Resumed in epoch 2 of 3") for note in fit_and_listen(folder, resume=True).notes)


def test_a_checkpoint_that_cannot_be_written_or_read_ends_auto_only_where_it_was_to_be_resumed(
    folder, fresh_cache, monkeypatch
) -> None:
    def full(folder, state):
        raise CacheError("the checkpoint cannot be written: No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoint, "save", full)
        assert any("is kept: the checkpoint cannot be written" in note for note in fit_and_listen(folder).reported)
        with pytest.raises(CacheError, match="No space left"):
            fit_and_listen(folder, method="finetune")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        failing_after(6, patch, KeyboardInterrupt())
        fit_and_listen(folder)
    (file,) = (fresh_cache / "runs").glob("*/checkpoint.pt")
    file.write_bytes(b"damaged")
    with pytest.raises(CacheError, match="begin anew without resume"):
        fit_and_listen(folder, resume=True)


def test_a_run_is_resumed_in_its_precision_though_the_cache_was_cleared_and_a_trial_finds_another(
    folder, fresh_cache, monkeypatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    trained, take_step = [], loop.take_step

    def watched(training, *arguments):
        trained.append(training.settings.precision)
        if len(trained) == 7:  # of 4 an epoch
            raise KeyboardInterrupt
        take_step(training, *arguments)

    monkeypatch.setattr(loop, "take_step", watched)
    for quicker in ("float32", "bfloat16"):
        seconds = {"float32": 1.5, "bfloat16": 1.5, quicker: 0.5}
        monkeypatch.setattr(precision, "seconds_of_step", lambda *given, seconds=seconds: seconds[given[-1]])
        resume = quicker == "bfloat16"
        if resume:
            clear()
            fit_and_listen(folder, method="finetune", resume=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit_and_listen(folder, method="finetune")
    assert len(trained) == 7 + 6
    assert set(trained) == {"float32"}


@pytest.mark.parametrize(("module", "place"), [(precision, "seconds_of_step"), (estimate, "seconds_of_step")])
def test_short_memory_in_a_trial_is_explained_and_auto_keeps_the_frozen_backbone(
    module, place: str, folder, frozen, fresh_cache, monkeypatch
) -> None:
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(module, place, fail)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)  # so that there is something to try
    training = {"epochs": 1, "batch_size": 7}
    kept = fit(folder, training, method="auto", budget="10h")
    assert any("is kept: memory is short for batches of 7 pictures: lower batch_size" in note for note in kept.notes_)
    assert all(torch.equal(tensor, weights(frozen)[name]) for name, tensor in weights(kept).items())
    with pytest.raises(TrainingError, match="memory is short for batches of 7") as error:
        fit(folder, training, budget="10h")
    assert "checkpoint" not in str(error.value)


def test_whoever_forgets_to_resume_is_told_and_loses_nothing(folder, fresh_cache, monkeypatch) -> None:
    training = {"epochs": 3, "batch_size": 8, "unfreeze": "conv_head", "checkpoint_seconds": 0.0}
    take_step, left = loop.take_step, [0]

    def stop(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return take_step(*arguments)

    said = []
    for steps in (6, 1):  # of 4 an epoch
        left[0], progress = steps, Progress()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "take_step", stop)
            ImageClassifier(method="finetune", image_size=64, precision="float32", training=training).fit(
                folder, progress=progress
            )
        said.append([note for note in progress.notes if "--resume" in note])
    assert said[0] == []
    assert said[1] == [
        "An earlier run of the same pictures and settings ended in epoch 2 of 3, unfinished: --resume (resume=True) "
        "continues it. This run begins anew; the earlier checkpoint is kept until this run is further."
    ]
    progress = Progress()
    ImageClassifier(method="finetune", image_size=64, precision="float32", training=training).fit(
        folder, resume=True, progress=progress
    )
    assert any(note.startswith("Resumed in epoch 2 of 3") for note in progress.notes)
    assert not list((fresh_cache / "runs").glob("*"))


@pytest.mark.parametrize(
    ("name", "advice"), [("auto", "choose method finetune without --budget"), ("finetune", "give none")]
)
def test_a_budget_that_is_too_small_says_what_helps(name: str, advice: str, folder) -> None:
    notes = fit(folder, {"epochs": 1}, method=name, budget=0).notes_
    assert any(note.endswith(f"Raise the budget, or {advice}.") for note in notes)


def test_a_run_that_is_not_begun_for_want_of_time_does_not_say_that_it_begins_anew(
    folder, fresh_cache, monkeypatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        failing_after(6, patch, KeyboardInterrupt())
        fit_and_listen(folder)
    notes = fit_and_listen(folder, budget=0).notes
    assert any("more than the budget" in note for note in notes)
    assert not any("begins anew" in note for note in notes)
    assert list((fresh_cache / "runs").glob("*/checkpoint.pt"))


# auto


def test_auto_fine_tunes_within_the_budget_and_not_beyond_it(folder, frozen) -> None:
    within = fit(folder, {"epochs": 1}, method="auto", budget="10h")
    beyond = fit(folder, {"epochs": 1}, method="auto", budget=0)
    assert len(within.history_) == 1
    assert any("McNemar" in note for note in within.notes_)
    assert beyond.history_.empty
    assert any("more than the budget of 0 s: the frozen backbone is kept" in note for note in beyond.notes_)
    assert all(torch.equal(tensor, weights(frozen)[name]) for name, tensor in weights(beyond).items())


def test_too_few_pictures_to_validate_keep_the_frozen_backbone(class_folders) -> None:
    classifier = fit(class_folders(per_class=6), method="auto")
    assert any("too few pictures to validate" in note for note in classifier.notes_)
    assert classifier.evaluated_by_ == "repeated cross-validation"


def test_a_rare_class_does_not_keep_the_others_from_being_fine_tuned_and_tested(class_folders) -> None:
    for kind, number in (("dots", 95), ("stripes", 95), ("checks", 12)):
        pictures = class_folders(per_class=number, kinds=(kind,), seed=1)
    classifier = fit(pictures, {"epochs": 1, "unfreeze": "conv_head"})
    assert classifier.evaluated_by_ == "test pictures"
    assert len(classifier.history_) == 1
    assert any("McNemar" in note for note in classifier.notes_)
    assert any("classes with under 20 pictures" in note and "checks (12)" in note for note in classifier.notes_)
    assert classifier.counts_ == {"train": 132, "validation": 30, "test": 40}
    rare, *others = classifier.test_.per_class
    assert (rare.support, [one.support for one in others]) == (2, [19, 19])
    # Two pictures cannot tell more than this, however they are named.
    assert rare.recall.high - rare.recall.low > 0.6


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), (" 1.5 m ", 90), ("2h", 7200), (30, 30)])
def test_budgets_are_read_as_people_write_them(text, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-3", "10 d", ""])
def test_other_budgets_are_explained(text: str) -> None:
    with pytest.raises(SettingError, match="give a time such as 90s, 10m or 2h"):
        parse_seconds(text)


# Views, weights, identity


@pytest.mark.parametrize(
    ("views", "augmentation", "pixels", "expected"),
    [
        (1, "none", True, 1),
        (1, "flip", True, 9),
        (1, "flip", False, sources.DEFAULT_VIEWS),
        (20, "flip", False, 9),
        (3, "flip", True, 3),
    ],
)
def test_augmentation_is_never_asked_for_in_vain(views: int, augmentation: str, pixels: bool, expected: int) -> None:
    how = FeatureSettings(views=views, augmentation=make_augmentation(augmentation))
    progress = Progress()
    assert sources.choose_views(how, 9, pixels=pixels, progress=progress).views == expected
    assert len(progress.notes) == (views == 1 and augmentation != "none")


@pytest.mark.parametrize("views", [1, 4])
def test_one_epoch_sees_only_the_plain_view_and_that_is_said(views: int) -> None:
    how, progress = FeatureSettings(views=views, augmentation=make_augmentation("flip")), Progress()
    assert sources.choose_views(how, 1, pixels=views == 1, progress=progress).views == 1
    assert progress.notes == [
        "With one epoch only the plain view is seen: the augmentation does nothing in fine-tuning."
    ]


def test_what_a_version_of_augmentation_or_training_changes_is_another_run(folder, fresh_cache, monkeypatch) -> None:
    tasks = []
    monkeypatch.setattr(method, "finetune", lambda task, *arguments: tasks.append(task) or task.start)
    fit(folder, {"epochs": 1}, augmentation="flip")
    found = [identity(tasks[0])]
    for module, name in ((augment, "_VERSION"), (faster, "VERSION"), (extraction, "VERSION")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 99)
            found.append(identity(tasks[0]))
    assert len({json.dumps(one, sort_keys=True, default=str) for one in found}) == 4


def test_class_weights_change_the_balance_and_not_the_size_of_the_loss() -> None:
    targets = np.array([0] * 8 + [1] * 2)
    balanced = scaled_weights("balanced", targets, 2)
    assert torch.allclose(balanced, torch.tensor([10 / 16, 10 / 4]))
    given = scaled_weights({1: 100.0}, targets, 2)
    assert float(given[1] / given[0]) == pytest.approx(100)
    for weights_ in (balanced, given):
        assert float(weights_[targets].mean()) == pytest.approx(1)
    assert scaled_weights(None, targets, 2) is None


@pytest.mark.slow
def test_everything_that_changes_the_weights_changes_the_run_and_nothing_else(class_folders, monkeypatch) -> None:
    folders: list[str] = []

    def remember(task, folder, *arguments):
        folders.append(folder.name)
        return task.start

    monkeypatch.setattr(method, "finetune", remember)
    folder = class_folders(per_class=20)
    base = {"epochs": 2}
    fit(folder, base)
    fit(folder, {**base, "checkpoint_seconds": 1})
    assert folders[0] == folders[1]
    others = [
        ({**base, "learning_rate": 0.5}, {}),
        ({**base, "unfreeze": "conv_head"}, {}),
        (base, {"seed": 1}),
        (base, {"validation_size": 0.25}),
        (base, {"class_weight": "balanced"}),
        (base, {"augmentation": "flip"}),
        (base, {"head": "mlp"}),
        (base, {"pooling": "max"}),
    ]
    for training, parameters in others:
        fit(folder, training, **parameters)
    assert len(set(folders)) == 1 + len(others)


def test_cutmix_on_tokens_is_said_to_be_off(class_folders, tmp_path) -> None:
    tiny_backbone("test_vit", tmp_path)
    classifier = fit(
        class_folders(per_class=20), {"epochs": 1, "cutmix": 1.0, "unfreeze": "blocks.4"},
        backbone="test_vit", weights=str(tmp_path / "test_vit.safetensors"), image_size=32,
    )  # fmt: skip
    assert any("CutMix needs maps" in note for note in classifier.notes_)


def test_extraction_is_asked_for_only_what_is_trained_on(class_folders, monkeypatch) -> None:
    asked = []
    extract = extraction.extract

    def watched(pictures, backbone, how=None, **named):
        asked.append((named.get("cut"), how.views))
        return extract(pictures, backbone, how, **named)

    monkeypatch.setattr(sources, "extract", watched)
    fit(class_folders(per_class=20), {"epochs": 2, "unfreeze": "conv_head"}, views=5, augmentation="flip")
    assert asked == [("conv_head", 2), ("conv_head", 1)]
