"""Figures and their intervals: against scikit-learn, published cases, and by simulation."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from headstart.core.errors import DataError
from headstart.core.intervals import wilson
from headstart.core.metrics import Evaluation, Figure, evaluate


def guesses(n: int, c: int, seed: int = 0, skill: float = 0.5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, c, n)
    probabilities = rng.dirichlet(np.ones(c), n)
    probabilities[np.arange(n), targets] += skill
    return targets, probabilities / probabilities.sum(1, keepdims=True), [f"class {i}" for i in range(c)]


@pytest.mark.parametrize(("n", "c"), [(40, 2), (300, 10), (50, 30)])
def test_figures_agree_with_scikit_learn(n: int, c: int) -> None:
    targets, probabilities, classes = guesses(n, c)
    named = probabilities.argmax(1)
    occurring = np.unique(np.concatenate([targets, named]))
    found = {name: figure.value for name, figure in evaluate(targets, probabilities, classes).figures.items()}
    recalls = reference.recall_score(targets, named, labels=np.unique(targets), average=None, zero_division=0)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, named))
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert found["macro_f1"] == pytest.approx(
        reference.f1_score(targets, named, labels=occurring, average="macro", zero_division=0)
    )
    assert found["log_loss"] == pytest.approx(reference.log_loss(targets, probabilities, labels=range(c)))
    assert ("top5_accuracy" in found) == (c > 5)
    if c > 5:
        top5 = reference.top_k_accuracy_score(targets, probabilities, k=5, labels=range(c))
        assert found["top5_accuracy"] == pytest.approx(top5)


def test_precision_recall_and_confusion_of_each_class_agree_with_scikit_learn() -> None:
    targets, probabilities, classes = guesses(200, 4)
    found = evaluate(targets, probabilities, classes)
    named = probabilities.argmax(1)
    expected = reference.precision_recall_fscore_support(targets, named, zero_division=0)
    assert np.allclose([one.precision.value for one in found.per_class], expected[0])
    assert np.allclose([one.recall.value for one in found.per_class], expected[1])
    assert np.allclose([one.f1 for one in found.per_class], expected[2])
    assert [one.support for one in found.per_class] == expected[3].tolist()
    assert (found.confusion == reference.confusion_matrix(targets, named)).all()


# Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score without continuity correction).
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """A classifier that is right with probability 0.9 on each of 100 pictures of two classes, 300 times."""
    rng, covered = np.random.default_rng(1), {"accuracy": 0, "balanced_accuracy": 0, "log_loss": 0}
    truth = {"accuracy": 0.9, "balanced_accuracy": 0.9, "log_loss": -0.9 * np.log(0.8) - 0.1 * np.log(0.2)}
    for _ in range(300):
        targets = np.repeat([0, 1], 50)
        right = rng.random(100) < 0.9
        sure = np.where(right, 0.8, 0.2)
        probabilities = np.stack([np.where(targets == 0, sure, 1 - sure), np.where(targets == 1, sure, 1 - sure)], 1)
        figures = evaluate(targets, probabilities, ["a", "b"]).figures
        for name in covered:
            covered[name] += figures[name].low <= truth[name] <= figures[name].high
    for name, count in covered.items():
        assert 0.89 <= count / 300 <= 0.99, name


def test_a_figure_is_read_with_its_interval() -> None:
    assert Figure(0.95424, 0.90853, 0.97763).text == "0.954 (0.909 to 0.978)"
    assert Figure(1.0, 0.7, 1.0).text == "1.000 (0.700 to 1.000)"


def test_the_bootstrap_is_seeded() -> None:
    targets, probabilities, classes = guesses(80, 3)
    one, same, other = (evaluate(targets, probabilities, classes, seed=seed).figures for seed in (1, 1, 2))
    assert one == same
    assert one["macro_f1"] != other["macro_f1"]


def test_the_majority_figure_is_that_of_always_naming_the_most_frequent_class() -> None:
    evaluation = evaluate(np.array([0, 0, 0, 1]), np.full((4, 2), 0.5), ["a", "b"])
    assert evaluation.majority == 0.75


def test_a_single_picture_a_missing_class_and_a_thousand_classes_work() -> None:
    single = evaluate(np.array([1]), np.array([[0.2, 0.8, 0.0]]), ["a", "b", "c"])
    assert single.figures["accuracy"].value == 1
    assert single.figures["accuracy"].low < 0.3
    assert single.figures["balanced_accuracy"].value == 1
    assert evaluate(*guesses(3000, 1000)).figures["top5_accuracy"].value > 0


def test_one_picture_makes_no_narrow_interval() -> None:
    for probabilities in ([0.9, 0.1], [0.1, 0.9]):
        figures = evaluate(np.array([0]), np.array([probabilities]), ["a", "b"]).figures
        assert all(figure.high - figure.low > 0.7 for figure in figures.values())


def test_a_perfect_result_is_not_reported_as_certain() -> None:
    figures = evaluate(np.repeat([0, 1], 20), np.repeat(np.eye(2), 20, axis=0), ["a", "b"]).figures
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert figures[name].value == figures[name].high == 1
        assert 0.8 < figures[name].low < 0.95


def test_the_macro_f1_interval_agrees_with_resampling_the_pictures() -> None:
    targets, probabilities, classes = guesses(400, 4)
    found = evaluate(targets, probabilities, classes).figures["macro_f1"]
    named, rng = probabilities.argmax(1), np.random.default_rng(0)
    drawn = [
        reference.f1_score(targets[rows], named[rows], average="macro") for rows in rng.integers(0, 400, (300, 400))
    ]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)


def test_float32_zeros_count_as_in_scikit_learn() -> None:
    probabilities = np.array([[0, 1], [1, 0], [0.25, 0.75]], np.float32)
    found = evaluate(np.array([0, 0, 1]), probabilities, ["a", "b"]).figures["log_loss"].value
    assert found == pytest.approx(reference.log_loss([0, 0, 1], probabilities), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_figures_are_numbers_inside_their_intervals(data: st.DataObject) -> None:
    c = data.draw(st.integers(2, 8))
    targets = np.array(data.draw(st.lists(st.integers(0, c - 1), min_size=1, max_size=12)))
    weights = data.draw(st.lists(st.integers(0, 3), min_size=c * len(targets), max_size=c * len(targets)))
    probabilities = np.array(weights, float).reshape(len(targets), c) + 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    evaluation = evaluate(targets, probabilities, [str(index) for index in range(c)])
    json.dumps(evaluation.to_json(), allow_nan=False)
    per_class = [figure for one in evaluation.per_class for figure in (one.precision, one.recall)]
    for figure in [*evaluation.figures.values(), *per_class]:
        assert 0 <= figure.low <= figure.value + 1e-9
        assert figure.value - 1e-9 <= figure.high


def test_importing_the_figures_imports_neither_scipy_nor_scikit_learn() -> None:
    code = "import sys, headstart.core.metrics; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "sklearn", "torch", "pandas"} & set(loaded)


def test_json_and_back_is_the_same_and_has_no_nan() -> None:
    evaluation = evaluate(np.array([0, 0, 2]), np.eye(4)[[0, 1, 2]], ["a", "b", "c", "d"])
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    assert again.to_json() == evaluation.to_json()


@pytest.mark.parametrize(
    ("targets", "probabilities", "words"),
    [
        ([], np.zeros((0, 2)), "no picture"),
        ([0], [[0.5, 0.25, 0.25]], "was expected"),
        ([2], [[0.5, 0.5]], "targets run from 2"),
        ([0], [[np.nan, 0.5]], "not numbers"),
        ([0], [[2.5, -1.0]], "not logits"),
        ([0], [[1.5, -0.5]], "not logits"),
    ],
)
def test_impossible_input_is_refused(targets: list, probabilities, words: str) -> None:
    with pytest.raises(DataError, match=words):
        evaluate(np.array(targets, int), np.asarray(probabilities), ["a", "b"])


def crops_of(photos: int, crops: int, wrong: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, probabilities and units of photos that were cut into crops, those listed named wrong."""
    units = np.repeat(np.arange(photos), crops)
    targets = units % 2
    named = np.where(np.isin(np.arange(len(units)), wrong), 1 - targets, targets)
    return targets, np.eye(2)[named] * 0.9 + 0.05, units


def test_crops_of_one_photo_are_no_independent_pictures() -> None:
    targets, probabilities, units = crops_of(12, 8)
    alone, together = (evaluate(targets, probabilities, ["a", "b"], units=one) for one in (None, units))
    assert (alone.n, alone.units) == (96, None)
    assert (together.n, together.units) == (96, 12)
    accuracy = together.figures["accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(12, 12))
    assert accuracy.low < 0.77 < 0.95 < alone.figures["accuracy"].low
    for name, figure in together.figures.items():
        assert figure.value == alone.figures[name].value
        assert figure.high - figure.low > 1.5 * (alone.figures[name].high - alone.figures[name].low), name
    for one in together.per_class:
        assert (one.recall.low, one.precision.low) == pytest.approx((wilson(6, 6)[0],) * 2)


def test_one_miss_makes_nothing_surer_and_pictures_that_stand_alone_change_nothing() -> None:
    targets, probabilities, units = crops_of(12, 8)
    perfect = evaluate(targets, probabilities, ["a", "b"], units=units).figures["accuracy"]
    missed = evaluate(*crops_of(12, 8, wrong=(3,))[:2], ["a", "b"], units=units).figures["accuracy"]
    assert missed.low < perfect.low + 0.03
    each = evaluate(targets, probabilities, ["a", "b"], units=np.arange(96))
    assert each.figures == evaluate(targets, probabilities, ["a", "b"]).figures
    assert each.units == 96


def test_an_evaluation_of_an_earlier_version_knows_no_units() -> None:
    told = evaluate(*crops_of(4, 2)[:2], ["a", "b"]).to_json()
    del told["units"]
    assert Evaluation.from_json(told).units is None
