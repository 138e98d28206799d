"""Figures, thresholds and tests of several labels a picture, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from headstart.core.answers import Thresholds, answer
from headstart.core.errors import DataError, SettingError
from headstart.core.labels import (
    average_precision,
    baselines,
    choose_thresholds,
    evaluate_labels,
    paired_bootstrap,
    refuse_several_labels,
)
from headstart.core.metrics import Evaluation, evaluate
from headstart.core.outcomes import Outcomes

CLASSES = ("a", "b", "c", "d")


def drawn(n: int = 200, seed: int = 0, rounded: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.1]
    scores = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(0, 1.2, labels.shape))))
    return labels, scores if rounded is None else scores.round(rounded)


@pytest.mark.parametrize("rounded", [None, 1])  # with one digit most scores are tied
def test_every_figure_is_that_of_scikit_learn(rounded: int | None) -> None:
    labels, scores = drawn(rounded=rounded)
    cuts = np.array([0.5, 0.45, 0.35, 0.65])
    found = evaluate(labels, scores, CLASSES, thresholds=cuts)
    named = scores >= cuts
    expected = {
        "mean_average_precision": reference.average_precision_score(labels, scores, average="macro"),
        "micro_f1": reference.f1_score(labels, named, average="micro"),
        "macro_f1": reference.f1_score(labels, named, average="macro"),
        "exact_match": reference.accuracy_score(labels, named),
        "hamming_loss": reference.hamming_loss(labels, named),
    }
    for name, value in expected.items():
        assert found.figures[name].value == pytest.approx(value, abs=1e-12), name
        assert found.figures[name].low < value < found.figures[name].high
    clipped = np.clip(scores, np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    losses = [reference.log_loss(labels[:, i], clipped[:, i]) for i in range(4)]
    assert found.figures["log_loss"].value == pytest.approx(np.mean(losses), abs=1e-9)
    assert np.array_equal(found.confusion, reference.multilabel_confusion_matrix(labels, named))
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, named)
    for i, one in enumerate(found.per_class):
        assert (one.precision.value, one.recall.value, one.f1) == pytest.approx((precision[i], recall[i], f1[i]))
        assert (one.support, one.threshold) == (support[i], cuts[i])
        assert one.average_precision is not None
        assert one.average_precision.value == pytest.approx(
            reference.average_precision_score(labels[:, i], scores[:, i])
        )


def test_a_resample_counts_a_picture_as_often_as_it_was_drawn() -> None:
    labels, scores = drawn(60, rounded=1)
    rows = np.random.default_rng(3).integers(0, 60, 60)
    weights = np.bincount(rows, minlength=60)[None]
    expected = reference.average_precision_score(labels[rows], scores[rows], average=None)
    assert average_precision(labels, scores, weights)[0] == pytest.approx(expected)


def test_the_interval_of_the_mean_average_precision_holds_the_truth_about_as_often_as_it_says() -> None:
    labels, scores = drawn(100_000, seed=99)
    truth = {
        "mean_average_precision": reference.average_precision_score(labels, scores),
        "micro_f1": reference.f1_score(labels, scores >= 0.5, average="micro"),
        "hamming_loss": reference.hamming_loss(labels, scores >= 0.5),
    }
    held = {"mean_average_precision": 0, "micro_f1": 0, "hamming_loss": 0}
    for seed in range(30):
        figures = evaluate_labels(*drawn(120, seed=seed), CLASSES, seed=seed).figures
        for name in held:
            held[name] += figures[name].low <= truth[name] <= figures[name].high
    assert all(26 <= count <= 30 for count in held.values()), held


def test_a_perfect_model_is_not_certain() -> None:
    labels, _ = drawn(40)
    found = evaluate_labels(labels, labels.astype(float), CLASSES)
    assert found.figures["mean_average_precision"].value == 1
    assert found.figures["mean_average_precision"].low < 0.95
    assert (found.headline, found.several_labels) == ("mean_average_precision", True)


def test_a_label_that_no_picture_has_does_not_count() -> None:
    labels, scores = drawn()
    labels[:, 3] = False
    found = evaluate_labels(labels, scores, CLASSES)
    expected = reference.average_precision_score(labels[:, :3], scores[:, :3], average="macro")
    assert found.figures["mean_average_precision"].value == pytest.approx(expected)
    assert (found.per_class[3].average_precision, found.per_class[3].support) == (found.per_class[3].recall, 0)


def test_an_evaluation_comes_back_from_json() -> None:
    found = evaluate_labels(*drawn(30), CLASSES, thresholds=[0.1, 0.2, 0.3, 0.4])
    again = Evaluation.from_json(found.to_json())
    assert (again.figures, again.per_class, again.classes) == (found.figures, found.per_class, found.classes)
    assert np.array_equal(again.confusion, found.confusion)


def test_thresholds_have_the_highest_f1_that_any_threshold_has() -> None:
    labels, scores = drawn(rounded=2)
    for i, cut in enumerate(choose_thresholds(labels, scores)):
        best = max(reference.f1_score(labels[:, i], scores[:, i] >= value) for value in np.linspace(0.005, 0.995, 199))
        assert reference.f1_score(labels[:, i], scores[:, i] >= cut) == pytest.approx(best)


def test_a_label_of_few_pictures_keeps_one_half() -> None:
    labels, scores = drawn()
    labels[:, 1], labels[:4, 1] = False, True
    assert choose_thresholds(labels, scores)[1] == 0.5


def test_the_paired_bootstrap_knows_equal_from_better() -> None:
    labels, scores = drawn()
    worse = np.random.default_rng(5).random(scores.shape)
    assert paired_bootstrap(labels, scores, scores) == (0.0, 1.0)
    difference, p = paired_bootstrap(labels, worse, scores)
    assert difference == pytest.approx(
        reference.average_precision_score(labels, scores) - reference.average_precision_score(labels, worse)
    )
    assert p < 0.01


@pytest.mark.parametrize(
    ("scores", "words"), [(np.full((3, 4), 1.5), "0 to 1"), (np.zeros((3, 3)), "shape"), (np.full((3, 4), np.nan), "0")]
)
def test_what_is_no_probability_is_refused(scores: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        evaluate(np.zeros((3, 4), bool), scores, CLASSES)


def test_an_answer_names_the_labels_from_their_thresholds_on_and_may_name_none() -> None:
    description = {"output": "multilabel", "classes": list(CLASSES)}
    description["confidence"] = {"labels": {"thresholds": {"a": 0.2, "b": 0.9}}}
    thresholds = Thresholds.of(description)
    assert thresholds.labels == (0.2, 0.9, 0.5, 0.5)
    told = answer(np.array([0.3, 0.8, 0.6, 0.1], np.float32), None, CLASSES, thresholds)
    assert told.labels == ("c", "a")
    assert told.to_json()["labels"] == ["c", "a"]
    assert "label" not in told.to_json()
    assert answer(np.zeros(4, np.float32), None, CLASSES, thresholds).labels == ()


def test_outcomes_are_right_where_all_labels_are(tmp_path) -> None:
    labels = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)
    said = np.array([[0.9, 0.3, 0.7, 0.1], [0.1, 0.3, 0.1, 0.1]], np.float32)
    found = Outcomes(CLASSES, ("x/1.png", "x/2.png"), labels, said, thresholds=np.array([0.5, 0.25, 0.5, 0.5]))
    assert found.right.tolist() == [False, False]
    assert Outcomes(CLASSES, found.paths, labels, said).right.tolist() == [True, True]
    found.write_csv(tmp_path)
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1:] == [
        "x/1.png,a;c,a;b;c,0.900000,,,1,0,1,0,0.899999976,0.300000012,0.699999988,0.100000001",
        "x/2.png,,b,0.300000,,,0,0,0,0,0.100000001,0.300000012,0.100000001,0.100000001",
    ]


def test_the_baselines_are_those_of_knowing_only_how_frequent_labels_are() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4000, 4)) < np.array([0.1, 0.3, 0.5, 0.8])
    found = baselines(evaluate_labels(truth, rng.random((4000, 4)), CLASSES))
    everything = evaluate_labels(truth, np.ones((4000, 4)), CLASSES).figures
    at_random = evaluate_labels(truth, rng.random((4000, 4)), CLASSES).figures
    assert found["macro_f1"] == pytest.approx(everything["macro_f1"].value)
    assert found["mean_average_precision"] == pytest.approx(everything["mean_average_precision"].value)
    assert found["mean_average_precision"] == pytest.approx(at_random["mean_average_precision"].value, abs=0.02)


def test_what_needs_one_class_says_so() -> None:
    refuse_several_labels("softmax", "the doctor")
    with pytest.raises(SettingError, match="the doctor needs one class"):
        refuse_several_labels("multilabel", "the doctor")
    with pytest.raises(SettingError, match="int8 needs one class.*exports but int8"):
        refuse_several_labels("multilabel", "int8")
