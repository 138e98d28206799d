"""Intervals: against published cases, SciPy, and the truth in simulation."""

import numpy as np
import pytest
from scipy import stats

from headstart.core import intervals
from headstart.core.intervals import (
    bootstrap_mean,
    from_variance,
    mean_of_proportions,
    paired_difference,
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


def test_the_bootstrap_of_a_mean_agrees_with_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    found = bootstrap_mean(values, 30.0, np.random.default_rng(1))
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def test_the_bootstrap_of_a_mean_does_not_depend_on_how_it_is_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).exponential(size=5000)
    monkeypatch.setattr(intervals, "RESAMPLES", 900)
    in_pieces = bootstrap_mean(values, 30.0, np.random.default_rng(1))  # two pieces, of 800 and 100
    drawn = values[np.random.default_rng(1).integers(0, 5000, (900, 5000), dtype=np.int32)].mean(axis=1)
    assert in_pieces == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-12)


def test_a_single_value_tells_nothing_about_its_mean() -> None:
    assert bootstrap_mean(np.array([0.2]), 30.0, np.random.default_rng(0)) == (0.0, 30.0)


def test_very_many_pictures_get_fewer_resamples_but_never_few() -> None:
    assert resamples_for(100) == 2000
    assert resamples_for(100_000) == 400
    assert resamples_for(10**9) == 200
