"""Every head keeps one contract; the linear one is scikit-learn's logistic regression."""

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from headstart.core.errors import DataError, SettingError
from headstart.learn.heads import (
    HEADS,
    LinearHead,
    MLPHead,
    PrototypeHead,
    SingleOutput,
    linear,
    logistic,
    make_head,
    prototype,
)
from headstart.learn.heads.folds import deal_folds
from headstart.networks.export import _export


def blobs(per_class: int = 30, c: int = 3, d: int = 16, seed: int = 0, spread: float = 0.6):
    """Features `(n, d)` around one random centre a class, far from the origin, and targets `(n,)`."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(c, d))
    targets = np.repeat(np.arange(c), per_class)
    return (5 + centres[targets] + spread * rng.normal(size=(len(targets), d))).astype(np.float32), targets


def logits(module: nn.Module, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module(torch.from_numpy(features)).numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(values), 1).numpy()


def head_of(name: str):
    return make_head(name, epochs=40) if name == "mlp" else make_head(name)


@pytest.mark.parametrize("name", HEADS)
def test_it_learns_blobs_and_gives_float32_logits_in_the_order_of_the_classes(name: str) -> None:
    x, y = blobs()
    fitted = head_of(name).fit(x, y, 3)
    new, truth = blobs(seed=1)
    found = logits(fitted.module, new)
    assert found.shape == (90, 3)
    assert found.dtype == np.float32
    assert (found.argmax(1) == truth).mean() > 0.95
    assert not fitted.module.training


@pytest.mark.parametrize("name", HEADS)
def test_the_same_seed_gives_the_same_head_and_leaves_torchs_generator_alone(name: str) -> None:
    x, y = blobs()
    state = torch.get_rng_state()
    one, same = (head_of(name).fit(x, y, 3, seed=5).module for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (logits(one, x) == logits(same, x)).all()


@pytest.mark.parametrize("name", ["linear", "prototype"])
def test_permuting_the_classes_permutes_the_outputs(name: str) -> None:
    x, y = blobs()
    order = np.array([2, 0, 1])
    plain, permuted = (head_of(name).fit(x, targets, 3) for targets in (y, order[y]))
    assert np.abs(softmax(logits(permuted.module, x))[:, order] - softmax(logits(plain.module, x))).max() < 2e-3


@pytest.mark.parametrize("name", HEADS)
def test_it_exports_to_onnx(name: str, tmp_path) -> None:
    x, y = blobs()
    module = head_of(name).fit(x, y, 3).module
    _export(module, torch.zeros(2, 16), tmp_path / "head.onnx", "features", ("logits",))
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx", providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"features": x})[0] - logits(module, x)).max() < 1e-4


@pytest.mark.parametrize("name", HEADS)
def test_one_picture_a_class_a_hundred_classes_and_constant_features_work(name: str) -> None:
    x, y = blobs(per_class=1, c=100, d=32)
    assert logits(head_of(name).fit(x, y, 100).module, x).shape == (100, 100)
    constant = np.hstack([blobs()[0], np.full((90, 4), 7, np.float32)])
    assert np.isfinite(logits(head_of(name).fit(constant, blobs()[1], 3).module, constant)).all()
    same = np.ones((6, 5), np.float32)
    assert np.isfinite(logits(head_of(name).fit(same, np.repeat([0, 1], 3), 2).module, same)).all()


@pytest.mark.parametrize("name", HEADS)
def test_several_views_of_a_picture_are_taken(name: str) -> None:
    x, y = blobs()
    views = np.stack([x, x + 0.05], axis=1).astype(np.float16)
    assert (logits(head_of(name).fit(views, y, 3).module, x).argmax(1) == y).mean() > 0.95


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x, y: (x, y, 4), DataError, "1 of 4 classes have no training picture"),
        (lambda x, y: (x, np.zeros_like(y), 1), DataError, "at least 2"),
        (lambda x, y: (np.where(x == x[0, 0], np.nan, x), y, 3), DataError, "not finite"),
        (lambda x, y: (x[:-1], y, 3), SettingError, "shape"),
        (lambda x, y: (x, y - 1, 3), SettingError, "targets run from -1"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(name: str, change, error, words: str) -> None:
    with pytest.raises(error, match=words):
        head_of(name).fit(*change(*blobs()))


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_balanced_weights_find_more_of_a_rare_class(name: str) -> None:
    x, y = blobs(per_class=200, c=2, d=4, spread=2.5)
    keep = np.concatenate([np.arange(200), np.arange(200, 212)])
    new, truth = blobs(per_class=200, c=2, d=4, spread=2.5, seed=1)
    recall = {
        weight: (logits(head_of(name).fit(x[keep], y[keep], 2, class_weight=weight).module, new).argmax(1) == truth)[
            truth == 1
        ].mean()
        for weight in (None, "balanced")
    }
    assert recall["balanced"] > recall[None]


@pytest.mark.parametrize("c", [2, 4])
@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_linear_is_scikit_learns_logistic_regression_at_the_same_strength(c: int, strength: float) -> None:
    x, y = blobs(c=c, spread=1.5)
    found = softmax(logits(LinearHead(C=strength).fit(x, y, c).module, x))
    centred = x - x.mean(0)
    scaled = centred / np.sqrt((centred**2).sum(1).mean())
    expected = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(scaled, y).predict_proba(scaled)
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("scaling", ["common", "feature"])
def test_linear_is_scikit_learns_with_weights_views_and_more_features_than_rows(scaling: str) -> None:
    """Both kinds of scaling, unequal class weights, and two views of each picture, which together weigh as one."""
    x, y = blobs(per_class=12, c=3, d=120, spread=2.0)
    x[:, 60:] *= 0.05
    views = np.stack([x, x + np.random.default_rng(1).normal(scale=0.3, size=x.shape)], 1).astype(np.float32)
    fitted = LinearHead(C=30.0, scaling=scaling).fit(views, y, 3, class_weight={0: 3.0})
    rows, labels = views.reshape(-1, 120), np.repeat(y, 2)
    scaled = (rows - rows.mean(0)) / (rows.std(0) if scaling == "feature" else 1)
    scaled /= np.sqrt((scaled**2).sum(1).mean())
    expected = LogisticRegression(C=30.0, max_iter=5000, tol=1e-8).fit(
        scaled, labels, sample_weight=np.where(labels == 0, 3.0, 1.0) / 2
    )
    assert np.abs(softmax(logits(fitted.module, rows)) - expected.predict_proba(scaled)).max() < 1e-3


def test_linear_gives_the_same_with_axes_too_many_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(spread=1.5)
    with_axes = softmax(logits(LinearHead(C=10.0).fit(x, y, 3).module, x))
    monkeypatch.setattr(logistic, "MAX_AXES", 3)
    assert np.abs(softmax(logits(LinearHead(C=10.0).fit(x, y, 3).module, x)) - with_axes).max() < 1e-3


def test_linear_spends_fewer_folds_and_steps_on_very_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs()
    product = len(x) * 16 * 3
    monkeypatch.setattr(linear, "PRODUCT_LIMIT", 2 * product)
    assert LinearHead().fit(x, y, 3).chosen["folds"] == 2
    monkeypatch.setattr(linear, "PRODUCT_LIMIT", 1)
    monkeypatch.setattr(linear, "SOLUTION_LIMIT", 30 * product)
    fitted = LinearHead().fit(x, y, 3)
    assert fitted.chosen["folds"] == 1
    assert [one["C"] for one in fitted.chosen["tried"]] == list(linear.STRENGTHS[::2][: len(fitted.chosen["tried"])])
    assert (logits(fitted.module, x).argmax(1) == y).mean() > 0.95


def test_linear_says_that_one_picture_a_class_leaves_nothing_to_choose_by() -> None:
    assert LinearHead().fit(*blobs(per_class=1), 3).chosen == {"C": linear.FALLBACK, "scaling": "common", "folds": 0}


def test_the_cross_validated_figures_are_those_of_fits_that_did_not_see_the_fold() -> None:
    x, y = blobs(per_class=12, spread=1.5)
    chosen = LinearHead().fit(x, y, 3, seed=3).chosen
    held_out = deal_folds(y, np.arange(len(y)), 5, 3)
    centred = x - x.mean(0)
    scaled = centred / np.sqrt((centred**2).sum(1).mean())
    losses = np.empty(len(y))
    for fold in range(5):
        out = held_out == fold
        model = LogisticRegression(C=chosen["C"], max_iter=5000, tol=1e-8).fit(scaled[~out], y[~out])
        losses[out] = -np.log(model.predict_proba(scaled[out])[np.arange(out.sum()), y[out]])
    assert chosen["cv_log_loss"] == pytest.approx(losses.mean(), rel=0.02)


def test_folds_hold_out_every_class_evenly_and_keep_groups_together() -> None:
    y = np.repeat([0, 1, 2], [50, 23, 4])
    groups = np.arange(77) // 2  # pairs; the one of pictures 72 and 73 is of two classes
    folds = deal_folds(y, groups, 5, seed=0)
    assert set(folds) <= {-1, 0, 1, 2, 3, 4}
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert np.ptp(np.bincount(folds[y == 0])) <= 2
    for fold in range(5):
        assert set(y[folds != fold]) == {0, 1, 2}


def test_folds_never_take_a_classs_last_picture_out_of_training() -> None:
    folds = deal_folds(np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 4, 4, 5]), 5, seed=0)
    assert folds[4] == folds[5] == folds[6] == -1
    assert sorted(folds[:4]) == [0, 1, 2, 3]
    assert set(deal_folds(np.arange(6), np.arange(6), 5, seed=0)) == {-1}


def test_folds_are_the_same_however_classes_are_numbered_and_differ_with_the_seed() -> None:
    y, order = np.tile([0, 1, 2], 20), np.array([2, 0, 1])
    plain, other = (deal_folds(y, np.arange(60), 5, seed) for seed in (0, 1))
    assert (deal_folds(order[y], np.arange(60), 5, 0) == plain).all()
    assert (plain != other).any()


def test_scaled_rows_are_centred_with_a_mean_squared_norm_of_1_and_equal_spread_when_asked() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(3, [1.0] * 300 + [100.0], (40, 301)).astype(np.float32))
    for scaling in ("common", "feature"):
        mean, scale = linear.row_scaling(rows, scaling)
        assert torch.allclose(mean, rows.mean(0), atol=1e-4)
        assert float((((rows - mean) / scale) ** 2).sum(1).mean()) == pytest.approx(1, rel=1e-4)
    assert torch.allclose(scale / scale[0], rows.std(0) / rows[:, 0].std(), rtol=1e-4)


def test_prototype_names_the_class_of_the_nearest_mean_direction() -> None:
    x, y = blobs()
    directions = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([directions[y == name].mean(0) for name in range(3)])
    cosines = directions @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    found = logits(PrototypeHead(scale=20.0).fit(x, y, 3).module, x)
    assert np.abs(found - 20 * (cosines - cosines.mean(1, keepdims=True))).max() < 1e-4


def test_prototype_chooses_the_scale_of_least_loss_when_each_group_is_left_out() -> None:
    x, y = blobs(per_class=8, spread=1.5)
    groups = np.repeat(np.arange(12), 2)
    chosen = PrototypeHead().fit(x, y, 3, groups=groups).chosen
    assert chosen["left_out"] == 24
    cosines = np.stack(
        [
            logits(PrototypeHead(scale=1.0).fit(x[keep], y[keep], 3).module, x)[~keep]
            for keep in groups != np.arange(12)[:, None]
        ]
    )
    losses = [
        torch.nn.functional.cross_entropy(torch.from_numpy(cosines.reshape(24, 3) * scale), torch.from_numpy(y)).item()
        for scale in prototype.SCALES
    ]
    assert chosen["scale"] == prototype.SCALES[int(np.argmin(losses))]
    assert chosen["cv_log_loss"] == pytest.approx(min(losses), rel=1e-4)


def test_prototype_falls_back_to_a_fixed_scale_with_one_picture_a_class() -> None:
    assert PrototypeHead().fit(*blobs(per_class=1), 3).chosen == {"scale": prototype.FALLBACK, "left_out": 0}


def test_mlp_sees_one_view_of_each_picture_an_epoch() -> None:
    """With the true classes in view 0 and wrong ones in view 1, one epoch learns right and two unlearn it."""
    x, y = blobs(per_class=100, spread=0.2)
    views = np.stack([x, x[(np.arange(300) + 100) % 300]], axis=1)
    right = {
        epochs: (logits(MLPHead(epochs=epochs, learning_rate=0.01).fit(views, y, 3).module, x).argmax(1) == y).mean()
        for epochs in (1, 2)
    }
    assert right[1] > 0.95
    assert right[2] < 0.5


def test_mlp_keeps_the_best_epoch_when_it_is_patient() -> None:
    x, y = blobs(spread=1.5)
    validation = blobs(seed=1, spread=1.5)
    fitted = MLPHead(epochs=200, patience=3, learning_rate=0.01).fit(x, y, 3, validation=validation)
    losses = [row["val_loss"] for row in fitted.history]
    assert fitted.chosen["epochs"] == 1 + int(np.argmin(losses)) == len(losses) - 3
    found = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits(fitted.module, validation[0])), torch.from_numpy(validation[1])
    )
    assert float(found) == pytest.approx(min(losses), rel=1e-3)


def test_mlp_says_when_validation_features_are_of_another_backbone() -> None:
    x, y = blobs()
    with pytest.raises(SettingError, match="8 columns"):
        MLPHead(epochs=1).fit(x, y, 3, validation=(x[:, :8], y))


@pytest.mark.parametrize("name", ["linear", "mlp", "prototype"])
@pytest.mark.parametrize(
    ("weight", "words"),
    [("heavy", "None, 'balanced'"), ({7: 1.0}, "names class 7"), ({0: 0.0}, "above 0"), ({0: np.nan}, "above 0")],
)
def test_impossible_class_weights_are_refused(name: str, weight, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        head_of(name).fit(*blobs(), 3, class_weight=weight)


def test_float64_that_float32_cannot_hold_is_refused() -> None:
    x, y = blobs()
    with pytest.raises(DataError, match="1 of 90 pictures"):
        LinearHead().fit(np.where(np.arange(90)[:, None] == 3, 1e300, x.astype(np.float64)), y, 3)


def test_linear_chooses_a_strength_that_cross_validation_prefers() -> None:
    x, y = blobs(per_class=20, d=64, spread=3.0)
    chosen = LinearHead().fit(x, y, 3).chosen
    assert chosen["folds"] == 5
    assert chosen["cv_log_loss"] == min(one["log_loss"] for one in chosen["tried"])
    assert len(chosen["tried"]) > 2


def test_linear_never_divides_a_group_between_folds() -> None:
    """Noise with identical twins: divided twins would make weak shrinkage look right."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(40, 64)).astype(np.float32)
    x, y = np.concatenate([half, half]), np.tile(rng.integers(0, 2, 40), 2)
    together = LinearHead().fit(x, y, 2, groups=np.tile(np.arange(40), 2)).chosen
    apart = LinearHead().fit(x, y, 2).chosen
    assert together["C"] < apart["C"]


def test_mlp_tells_each_epoch_and_stops_when_patience_ends() -> None:
    x, y = blobs()
    fitted = MLPHead(epochs=6).fit(x, y, 3, validation=blobs(seed=1))
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(fitted.history[0])
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    wrong = (blobs(seed=1)[0], (blobs(seed=1)[1] + 1) % 3)
    assert len(MLPHead(epochs=50, patience=2).fit(x, y, 3, validation=wrong).history) < 50


def test_mlp_tells_each_epoch_as_it_comes_and_other_heads_have_none() -> None:
    (x, y), told = blobs(), []
    alone = MLPHead(epochs=4, patience=1).fit(x, y, 3, validation=blobs(seed=1))
    fitted = MLPHead(epochs=4, patience=1).fit(
        x, y, 3, validation=blobs(seed=1), on_epoch=lambda *of: told.append((*of, torch.rand(1)))
    )
    assert [(row, epochs) for row, epochs, _ in told] == [(row, 4) for row in fitted.history]
    assert fitted.history == alone.history  # whatever is drawn while it is told
    two = y < 2
    for head, rows in ((SingleOutput(MLPHead(epochs=3)), 3), (LinearHead(), 0), (PrototypeHead(), 0)):
        told.clear()
        head.fit(x[two], y[two], 2, on_epoch=lambda *of: told.append(of))
        assert len(told) == rows


def test_what_ends_the_fit_from_an_epoch_is_raised_after_that_epoch() -> None:
    told = []

    def stop(row: dict[str, float], epochs: int) -> None:
        told.append(row["epoch"])
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MLPHead(epochs=9).fit(*blobs(), 3, on_epoch=stop)
    assert told == [1, 2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden": (0,)}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
        ({"epochs": 0}, "epochs"),
        ({"sizes": 3}, "batch_size"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make_head("mlp", **settings)


def test_an_unknown_head_gets_the_nearest_names() -> None:
    with pytest.raises(SettingError, match="'linear'"):
        make_head("linaer")


@pytest.mark.parametrize("name", HEADS)
def test_one_sigmoid_output_gives_the_probabilities_of_the_two_it_was_made_of(name: str) -> None:
    x, y = blobs(c=2)
    two = head_of(name).fit(x, y, 2).module
    one = SingleOutput(head_of(name)).fit(x, y, 2).module
    assert [layer.out_features for layer in one.modules() if isinstance(layer, nn.Linear)][-1] == 1
    assert np.abs(softmax(logits(one, x)) - softmax(logits(two, x))).max() < 1e-4
    with pytest.raises(SettingError, match="3 classes"):
        SingleOutput(head_of(name)).fit(*blobs(), 3)
