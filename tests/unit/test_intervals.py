"""Intervals: against published cases, SciPy, and the truth in simulation."""

import numpy as np
import pytest
from scipy import stats

from headstart.core.intervals import (
    effective_size,
    from_variance,
    loss_if_wrong,
    mean_loss,
    mean_of_proportions,
    paired_difference,
    proportion,
    resamples_for,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 7), (146, 153), (999_999, 1_000_000)])
def test_wilson_is_scipys_score_interval(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_is_known_of_a_proportion_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_mean_of_one_proportion_has_nearly_its_wilson_interval() -> None:
    value, low, high = mean_of_proportions(np.array([146]), np.array([153]))
    assert value == 146 / 153
    assert (low, high) == pytest.approx(wilson(146, 153), abs=0.003)


def test_the_mean_of_equal_strata_has_nearly_the_interval_of_all_together() -> None:
    _, low, high = mean_of_proportions(np.full(4, 90), np.full(4, 100))
    assert (low, high) == pytest.approx(wilson(360, 400), abs=0.001)


def test_a_rare_stratum_widens_the_mean_and_an_absent_one_does_not() -> None:
    _, low, high = mean_of_proportions(np.array([900, 5]), np.array([1000, 5]))
    _, low_equal, high_equal = mean_of_proportions(np.array([452, 502]), np.array([502, 503]))
    assert high - low > 3 * (high_equal - low_equal)
    assert mean_of_proportions(np.array([9, 0, 8]), np.array([10, 0, 10])) == mean_of_proportions(
        np.array([9, 8]), np.array([10, 10])
    )


@pytest.mark.parametrize(
    ("sizes", "truth"),
    [((10, 10), (0.98, 0.98)), ((76, 77), (0.96, 0.94)), ((140, 13), (0.95, 0.95)), ((1,) * 60, (0.8,) * 60)],
)
def test_the_mean_of_proportions_is_covered_about_as_often_as_it_should(sizes: tuple, truth: tuple) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.binomial(sizes, truth, (1000, len(sizes)))
    found = [mean_of_proportions(successes, np.array(sizes)) for successes in drawn]
    assert 0.9 <= np.mean([low <= np.mean(truth) <= high for _, low, high in found]) <= 0.995


def test_an_interval_from_a_variance_is_the_normal_one_for_many_and_stays_inside_for_few() -> None:
    low, high = from_variance(0.8, 1e-6, 10)
    assert (low, high) == pytest.approx((0.8 - 1.96e-3, 0.8 + 1.96e-3), abs=1e-5)
    assert from_variance(0.98, 0.01, 10)[1] <= 1
    assert from_variance(1.0, 0.0, 10) == pytest.approx(wilson(10, 10))


def test_a_paired_difference_worked_by_hand() -> None:
    # 12 and 9 of 98 differ: 13/100 and 10/100 after one imagined observation each, so the difference is -0.03 and its
    # variance (0.23 - 0.03²) / 100 = 0.002291.
    low, high = paired_difference(12, 9, 98)
    assert (low, high) == pytest.approx((-0.03 - 1.959964 * 0.002291**0.5, -0.03 + 1.959964 * 0.002291**0.5), abs=1e-6)
    turned = paired_difference(9, 12, 98)
    assert turned == pytest.approx((-high, -low))


def test_with_many_pictures_a_paired_difference_is_walds() -> None:
    b, c, n = 4000, 5000, 100_000
    error = ((b + c - (c - b) ** 2 / n) / n**2) ** 0.5
    expected = ((c - b) / n - 1.959964 * error, (c - b) / n + 1.959964 * error)
    assert paired_difference(b, c, n) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("only_first", "only_second", "n"), [(0.05, 0.02, 60), (0.03, 0.03, 153), (0.01, 0.0, 100), (0.2, 0.1, 40)]
)
def test_paired_differences_hold_the_truth_in_about_19_of_20_samples(
    only_first: float, only_second: float, n: int
) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(n, [only_first, only_second, 1 - only_first - only_second], 4000)
    inside = [
        low <= only_second - only_first <= high for low, high in (paired_difference(b, c, n) for b, c, _ in drawn)
    ]
    assert 0.93 <= np.mean(inside) <= 1.0


def test_models_that_never_differ_are_not_certain_to_be_equal() -> None:
    low, high = paired_difference(0, 0, 50)
    assert low < -0.03
    assert high > 0.03


def good_models(n: int, runs: int, seed: int, sureness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return losses `(runs, n)` of pictures, and the loss of one that is wrong in each run.

    A network of two classes whose margin is |N(6, 2)|, right as often as the logistic of it says (0.986), but for
    `sureness` 1 either surer than that or less.
    """
    rng = np.random.default_rng(seed)
    margin = np.abs(rng.normal(6, 2, (runs, n)))
    right = rng.random((runs, n)) < 1 / (1 + np.exp(-margin))
    said = np.clip(1 / (1 + np.exp(-sureness * margin)), 0, 1 - 1.2e-7)
    imagined = [loss_if_wrong(np.stack([one, 1 - one], axis=1), 1.2e-7) for one in said]
    return -np.log(np.where(right, said, 1 - said)), np.array(imagined)


@pytest.mark.parametrize("sureness", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("n", [20, 50, 153])
def test_the_interval_of_a_good_models_log_loss_holds_the_truth_where_the_percentile_bootstrap_does_not(
    n: int, sureness: float
) -> None:
    truth = good_models(1_000_000, 1, 9, sureness)[0].mean()
    losses, imagined = good_models(n, 600, 1, sureness)
    found = np.array([mean_loss(*one, 16.0) for one in zip(losses, imagined, strict=True)])
    assert (found[:, 0] == losses.mean(axis=1)).all()
    assert np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])) >= 0.94
    assert np.mean(found[:, 2] < truth) < 0.03  # the optimistic side
    rng = np.random.default_rng(0)
    drawn = [np.quantile(one[rng.integers(0, n, (200, n))].mean(axis=1), [0.025, 0.975]) for one in losses[:200]]
    assert np.mean([low <= truth <= high for low, high in drawn]) < 0.85


def test_with_many_pictures_the_interval_of_a_mean_loss_is_the_normal_one() -> None:
    losses = np.random.default_rng(0).exponential(size=200_000)
    value, low, high = mean_loss(losses, 3.0, 16.0)
    half = 1.959964 * losses.std() / 200_000**0.5
    assert (low, high) == pytest.approx((value - half, value + half), abs=1e-4)


def test_the_interval_of_a_mean_loss_worked_by_hand() -> None:
    # 0.1, 0.3 and an imagined 1.4: mean 0.6, squares 0.25 + 0.09 + 0.64, so its variance is 0.98 / 2 / 3.
    error = (0.98 / 6) ** 0.5
    value, low, high = mean_loss(np.array([0.1, 0.3]), 1.4, 16.0)
    assert value == pytest.approx(0.2)
    assert low == pytest.approx(0.2 * np.exp(-1.959964 * error / 0.2))
    assert high == pytest.approx(0.6 * np.exp(1.959964 * error / 0.6))


def test_copies_of_a_picture_make_its_loss_no_surer() -> None:
    losses = np.random.default_rng(0).exponential(size=30)
    once = mean_loss(losses, 3.0, 16.0)
    copied = mean_loss(np.repeat(losses, 4), 3.0, 16.0, np.repeat(np.arange(30), 4))
    assert copied == pytest.approx(once)
    assert mean_loss(np.repeat(losses, 4), 3.0, 16.0)[2] < once[2] - 0.1


def test_a_single_value_tells_nothing_about_its_mean() -> None:
    assert mean_loss(np.array([0.2]), 3.0, 30.0) == (0.2, 0.0, 30.0)
    assert mean_loss(np.array([0.2, 0.2]), 3.0, 30.0, np.zeros(2, int)) == (0.2, 0.0, 30.0)


def test_the_loss_of_a_wrong_picture_worked_by_hand() -> None:
    # Wrong with 0.3 (0.2 and 0.1) and with 0.5.
    said = np.array([[0.7, 0.2, 0.1], [0.5, 0.0, 0.5]])
    expected = -(0.2 * np.log(0.2) + 0.1 * np.log(0.1) + 0.5 * np.log(0.5)) / 0.8
    assert loss_if_wrong(said, 1e-7) == pytest.approx(expected)
    assert loss_if_wrong(np.eye(2), 1e-7) == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("count", "size", "truth"), [(30, 8, 0.95), (30, 2, 0.8), (100, 8, 0.99), (12, 8, 0.8)])
def test_a_share_of_pictures_in_groups_is_covered_about_as_often_as_it_should(
    count: int, size: int, truth: float, correlation: float
) -> None:
    rng, units = np.random.default_rng(0), np.repeat(np.arange(count), size)
    held = pictures = 0
    for _ in range(400):
        chance = np.full(count, truth)
        if correlation == 1:
            chance = (rng.random(count) < truth).astype(float)
        elif correlation:
            rest = (1 - correlation) / correlation
            chance = rng.beta(truth * rest, (1 - truth) * rest, count)
        right = rng.random(count * size) < chance[units]
        _, low, high = proportion(right, units)
        held += low <= truth <= high
        pictures += wilson(right.sum(), len(right))[0] <= truth <= wilson(right.sum(), len(right))[1]
    assert held / 400 >= 0.9
    assert correlation < 1 or size < 8 or pictures / 400 < 0.6  # counting pictures does not


def test_an_effective_size_lies_between_one_a_unit_and_all_pictures() -> None:
    units = np.repeat(np.arange(20), 5)
    assert effective_size(np.ones(100, bool), units) == effective_size(np.zeros(100, bool), units) == 20
    assert effective_size(np.ones(100, bool), None) == effective_size(np.ones(100, bool), np.arange(100)) == 100
    spread = effective_size(np.arange(100) % 5 == 0, units)  # one of every unit
    assert 20 < spread <= 100
    assert 20 <= effective_size(units < 10, units) < 25  # whole units
    assert proportion(np.zeros(0, bool)) == (0.0, 0.0, 1.0)


def test_very_many_pictures_get_fewer_resamples_but_never_few() -> None:
    assert resamples_for(100) == 2000
    assert resamples_for(100_000) == 400
    assert resamples_for(10**9) == 200
