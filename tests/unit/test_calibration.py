"""Calibration error, temperature, prediction sets, false alarms, against definitions, scikit-learn and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.calibration import (
    Bin,
    alarm_threshold,
    at_temperature,
    calibration_error,
    conformal_rank,
    error_of,
    fit_temperature,
    prediction_sets,
    reliability,
    set_threshold,
)
from headstart.core.errors import DataError


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def draw(n: int, classes: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return targets drawn from the very probabilities that are returned."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, sharpness, (n, classes)))
    targets = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return targets, probabilities


def test_calibration_error_of_a_case_worked_by_hand() -> None:
    # Two bins: 0.6 twice, one right (accuracy 0.5); 0.9 twice, both right (accuracy 1).
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]])
    targets = np.array([0, 1, 0, 1])
    assert calibration_error(targets, probabilities, bins=10) == pytest.approx((0.1 + 0.1) / 2)
    assert error_of((Bin(0.5, 0.6, 3, 0.6, 0.5), Bin(0.8, 0.9, 1, 0.9, 1.0))) == pytest.approx(0.1)


def test_reliability_agrees_with_scikit_learns_calibration_curve() -> None:
    from sklearn.calibration import calibration_curve

    targets, probabilities = draw(2000, 3, 1.5, seed=1)
    right, confidence = probabilities.argmax(axis=1) == targets, probabilities.max(axis=1)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    bins = reliability(targets, probabilities, bins=10)
    assert [one.accuracy for one in bins] == pytest.approx(accuracy.tolist())
    assert [one.confidence for one in bins] == pytest.approx(mean.tolist())
    assert sum(one.count for one in bins) == 2000


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    (only,) = reliability(np.array([0]), np.array([[1.0, 0.0]]))
    assert (only.high, only.count) == (1.0, 1)


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_temperature_is_found_again(true: float) -> None:
    targets, honest = draw(4000, 5, 2.0, seed=3)
    skewed = at_temperature(honest, 1 / true)
    found = fit_temperature(targets, skewed)
    assert found == pytest.approx(true, rel=0.06)
    assert calibration_error(targets, at_temperature(skewed, found)) < 0.03


def test_temperature_of_few_pictures_that_are_all_right_stays_near_one() -> None:
    targets, probabilities = np.zeros(30, int), np.tile([0.95, 0.05], (30, 1))
    assert 0.7 < fit_temperature(targets, probabilities) < 1


def test_temperature_never_changes_what_is_named() -> None:
    _, probabilities = draw(500, 4, 3.0, seed=5)
    for temperature in (0.2, 3.0):
        assert (at_temperature(probabilities, temperature).argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert at_temperature(probabilities, 1.0) == pytest.approx(probabilities)


def test_temperature_without_pictures_is_refused() -> None:
    with pytest.raises(DataError, match="held out"):
        fit_temperature(np.zeros(0, int), np.zeros((0, 2)))


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_prediction_sets_cover_as_often_as_they_promise(coverage: float) -> None:
    # The mean over calibration sets: coverage is a promise about them, too (Angelopoulos and Bates, section 3.2).
    shares = []
    for seed in range(200):
        targets, probabilities = draw(400, 6, 1.0, seed=seed)
        threshold = set_threshold(targets[:100], probabilities[:100], coverage)
        inside = prediction_sets(probabilities[100:], threshold)
        shares.append(inside[np.arange(300), targets[100:]].mean())
    assert coverage - 0.01 < np.mean(shares) < coverage + 0.025


def test_too_few_pictures_for_the_coverage_put_every_class_into_the_set() -> None:
    targets, probabilities = draw(10, 3, 1.0, seed=2)
    assert conformal_rank(10, 0.95) == 11
    assert set_threshold(targets, probabilities, 0.95) == 0.0
    assert prediction_sets(probabilities, 0.0).all()


def test_the_most_probable_class_is_always_in_the_set() -> None:
    _, probabilities = draw(50, 3, 0.1, seed=4)
    inside = prediction_sets(probabilities, 0.99)
    assert inside.sum(axis=1).tolist() == [1] * 50
    assert (inside.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_the_class_that_gave_the_threshold_is_in_its_set_in_float32_too() -> None:
    targets, probabilities = draw(99, 4, 1.0, seed=6)
    threshold = set_threshold(targets, probabilities, 0.9)
    inside = prediction_sets(probabilities.astype(np.float32), threshold)
    assert inside[np.arange(99), targets].sum() >= 90


def test_false_alarms_are_as_rare_as_stated() -> None:
    rates = []
    for seed in range(300):
        scores = np.random.default_rng(seed).gamma(2.0, size=1100)
        threshold = alarm_threshold(scores[:100], 0.05)
        assert threshold is not None
        rates.append((scores[100:] > threshold).mean())
    assert 0.04 < np.mean(rates) <= 0.052


def test_too_few_scores_give_no_threshold() -> None:
    assert alarm_threshold(np.arange(10.0), 0.05) is None
    assert alarm_threshold(np.arange(19.0), 0.05) == 18.0
