"""Tests of differences: against scipy, against cases worked by hand, and by simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headstart.core.errors import DataError
from headstart.core.significance import corrected_t_test, fisher_exact, holm, mcnemar, paired_permutation


def test_without_the_correction_it_is_the_paired_t_test_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.03, 25), rng.normal(0.92, 0.03, 25)
    found, expected = corrected_t_test(a, b, 0.0, 5), stats.ttest_rel(b, a)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_correction_worked_by_hand() -> None:
    # Differences 0.01 0.02 0.03 0.04 0.05: mean 0.03, variance 0.00025. With five folds n_test / n_train is 1/4, so the
    # variance of the mean is (1/5 + 1/4) * 0.00025 and t = 0.03 / 0.0106066 = 2.8284 on 4 degrees of freedom.
    found = corrected_t_test(np.full(5, 0.9), 0.9 + np.arange(1, 6) / 100, 0.25, 5)
    assert found.value == pytest.approx(0.03)
    assert found.standard_error == pytest.approx(0.0106066, abs=1e-7)
    assert found.p == pytest.approx(2 * stats.t.sf(2.8284271, 4))
    assert found.high - found.value == pytest.approx(2.7764451 * 0.0106066, abs=1e-6)


def test_turned_round_it_is_the_same_difference() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(10), rng.random(10)
    there, back = corrected_t_test(a, b, 0.25, 5), corrected_t_test(b, a, 0.25, 5)
    assert (there.value, there.low, there.p) == pytest.approx((-back.value, -back.high, back.p))


def test_scores_without_any_variance_are_never_certain() -> None:
    same = np.full(25, 0.9)
    assert corrected_t_test(same, same, 0.25, 5).p == 1.0
    # 0.9 and 0.8 in every fold: a coin falls five times on one side with 2 / 2^5.
    always = corrected_t_test(same, same - 0.1, 0.25, 5)
    assert (always.value, always.p) == pytest.approx((-0.1, 0.0625))
    assert (always.low, always.high, always.standard_error) == (None, None, None)  # rather than one without a width
    assert always.text == "-0.100"


@pytest.mark.parametrize(("a", "b"), [([0.5], [0.6]), ([0.5, 0.6], [0.5]), ([[0.5, 0.6]], [[0.5, 0.6]])])
def test_scores_that_are_not_paired_are_refused(a: list, b: list) -> None:
    with pytest.raises(DataError, match="same folds"):
        corrected_t_test(np.array(a), np.array(b), 0.25, 5)


def test_the_corrected_test_calls_equal_learners_different_in_about_five_percent_where_the_plain_one_does_more() -> (
    None
):
    """Two learners, equally good in the mean, over repeated cross-validation of real fits (nearest class mean)."""
    rng = np.random.default_rng(2)
    runs, folds, repeats, n = 200, 5, 5, 80
    plain = corrected = 0
    for _ in range(runs):
        y = np.arange(n) % 2
        # Each learner sees its own half of the features, which are equally good.
        halves = [rng.normal(size=(n, 4)) + 0.45 * (2 * y[:, None] - 1) for _ in range(2)]
        scores = np.zeros((2, repeats * folds))
        for repeat in range(repeats):
            parts = np.array_split(rng.permutation(n), folds)
            for fold, test in enumerate(parts):
                train = np.setdiff1d(np.arange(n), test)
                for which, x in enumerate(halves):
                    means = [x[train][y[train] == label].mean(0) for label in (0, 1)]
                    named = np.array([((x[test] - mean) ** 2).sum(1) for mean in means]).argmin(0)
                    scores[which, repeat * folds + fold] = (named == y[test]).mean()
        corrected += corrected_t_test(scores[0], scores[1], 1 / (folds - 1), folds).p < 0.05
        plain += corrected_t_test(scores[0], scores[1], 0.0, folds).p < 0.05
    assert corrected <= stats.binom.ppf(0.999, runs, 0.06)
    assert plain > 2 * corrected
    assert plain > 0.2 * runs


def closed_testing(p: list[float]) -> list[float]:
    """Return p-values corrected by the definition (Marcus, Peritz and Gabriel 1976), of which Holm's is a shortcut.

    A hypothesis is rejected where every set of hypotheses with it is, by Bonferroni.
    """
    m = len(p)
    sets = [s for size in range(1, m + 1) for s in itertools.combinations(range(m), size)]
    return [max(min(1.0, len(s) * min(p[i] for i in s)) for s in sets if one in s) for one in range(m)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    assert holm(p).tolist() == pytest.approx(closed_testing(p))


def test_holm_worked_by_hand() -> None:
    # Sorted 0.01 0.02 0.03 0.04, times 4 3 2 1: 0.04 0.06 0.06 0.04, never falling: 0.04 0.06 0.06 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]).tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_fisher_agrees_with_scipy(right: int, wrong: int, other_right: int, other_wrong: int) -> None:
    expected = stats.fisher_exact([[right, wrong], [other_right, other_wrong]]).pvalue
    found = fisher_exact(right, right + wrong, other_right, other_right + other_wrong)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random(400) < 0.85, rng.random(400) < 0.9
    difference, p = mcnemar(a, b)
    assert difference == pytest.approx(b.mean() - a.mean())
    assert p == pytest.approx(stats.binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue)


def test_mcnemar_of_equal_classifiers_shows_nothing() -> None:
    assert mcnemar(np.ones(5, bool), np.ones(5, bool)) == (0.0, 1.0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], [True, False])])
def test_mcnemar_refuses_answers_on_different_pictures(a: list, b: list) -> None:
    with pytest.raises(DataError, match="same pictures"):
        mcnemar(np.array(a, bool), np.array(b, bool))


def test_mcnemar_of_very_many_pairs_is_a_number() -> None:
    a = np.arange(20_000) % 2 == 0
    assert mcnemar(a, ~a) == (0.0, 1.0)


def test_a_paired_test_counts_units() -> None:
    # Of 24 crops the second names 12 more right: three photos of four, which a coin does three times in eight.
    a, b = np.zeros(24, bool), np.repeat([True, True, True, False], 6)
    difference, p = mcnemar(a, b, np.repeat(np.arange(4), 6))
    assert (difference, p) == (0.75, pytest.approx(2 * 0.5**3))
    assert mcnemar(a, b)[1] < 1e-4
    # A unit in which both win as often tells nothing.
    assert mcnemar(np.array([True, False]), np.array([False, True]), np.zeros(2, int)) == (0.0, 1.0)


@pytest.mark.parametrize(("n", "within"), [(2, 1e-12), (7, 1e-12), (13, 1e-12), (40, 0.02)])
def test_the_permutation_test_agrees_with_scipy(n: int, within: float) -> None:
    change = np.random.default_rng(n).normal(0.2, 0.5, n)
    both = (np.zeros(n), change)
    ways = {"permutation_type": "samples", "vectorized": True, "n_resamples": 20_000}
    expected = stats.permutation_test(both, lambda a, b, axis: (b - a).sum(axis=axis), **ways)
    # scipy doubles the smaller tail; ours is of the absolute sum, which turning all signs leaves as it is.
    assert paired_permutation(change) == pytest.approx(expected.pvalue, abs=within)
    assert paired_permutation(-change) == pytest.approx(paired_permutation(change), abs=within)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (3, 0), (5, 2), (9, 4)])
def test_where_all_changes_count_alike_it_is_the_exact_binomial_test(better: int, worse: int) -> None:
    change = np.array([1.0] * better + [-1.0] * worse + [0.0] * 20)
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert paired_permutation(change) == pytest.approx(expected)


def test_pictures_that_belong_together_turn_as_one() -> None:
    change, units = np.array([1.0, 2.0, -0.5, 1.0, 1.0, -1.0]), np.array([4, 4, 7, 7, 9, 9])
    assert paired_permutation(change, units) == paired_permutation(np.array([3.0, 0.5])) == 0.5


def test_a_permutation_test_of_no_difference_finds_one_in_about_five_percent() -> None:
    rng = np.random.default_rng(2)
    found = [paired_permutation(rng.choice([-3.0, -1.0, 1.0, 3.0], 12)) for _ in range(400)]
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.08
