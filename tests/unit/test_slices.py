"""Figures of parts of the pictures: each against a count by hand, the whole against chance by simulation."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from headstart.core.labels import evaluate_labels
from headstart.core.metrics import evaluate
from headstart.core.outcomes import Outcomes
from headstart.core.significance import holm
from headstart.core.slices import slices


def said(targets: np.ndarray, named: np.ndarray) -> Outcomes:
    return Outcomes(("a", "b"), ("x.jpg",) * len(named), targets, np.eye(2)[named])


def answers(right: list[int]) -> Outcomes:
    """Return what was said of pictures of two classes in turn, from which are right."""
    targets = np.arange(len(right)) % 2
    return said(targets, np.where(np.array(right) == 1, targets, 1 - targets))


def test_each_slice_has_the_figures_of_its_own_pictures_and_the_worst_stands_first() -> None:
    right = [1] * 18 + [0] * 2 + [1] * 9 + [0] * 11
    camera = ["phone"] * 20 + ["trap"] * 20
    outcomes = answers(right)
    targets, named = outcomes.targets, outcomes.named
    found = slices({"camera": camera}, outcomes)
    assert [(row.value, row.n, row.figures["accuracy"].value) for row in found.rows] == [
        ("trap", 20, 0.45),
        ("phone", 20, 0.9),
    ]
    assert found.value == pytest.approx(27 / 40)
    for row, start in ((found.rows[0], 20), (found.rows[1], 0)):
        part = slice(start, start + 20)
        alone = evaluate(targets[part], np.eye(2)[named[part]], ("a", "b"))
        assert row.figures == {name: alone.figures[name] for name in ("accuracy", "balanced_accuracy")}
    # Both slices are the same table of 18 and 9 of 20, looked at twice.
    p = stats.fisher_exact([[18, 2], [9, 11]]).pvalue
    assert [row.p for row in found.rows] == pytest.approx(holm([p, p]).tolist())
    assert "worse than the rest beyond chance: camera=trap" in found.notes()[0]


def test_with_several_labels_a_slice_has_the_figures_of_labels_and_is_tested_on_all_being_right() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((60, 3)) < 0.4
    scores = np.where(truth, 0.8, 0.1)
    scores[:20] = rng.random((20, 3))
    cuts = np.array([0.5, 0.6, 0.7])
    site = ["new"] * 20 + ["old"] * 40
    found = slices({"site": site}, Outcomes(("a", "b", "c"), ("x.jpg",) * 60, truth, scores, thresholds=cuts))
    right = ((scores >= cuts) == truth).all(axis=1)
    assert [row.value for row in found.rows] == ["new", "old"]
    assert found.rows[0].figures["exact_match"].value == right[:20].mean() < found.value == right.mean()
    alone = evaluate_labels(truth[:20], scores[:20], ("a", "b", "c"), thresholds=cuts)
    for name in ("mean_average_precision", "macro_f1"):
        assert found.rows[0].figures[name] == alone.figures[name]
    p = stats.fisher_exact(
        [[right[:20].sum(), 20 - right[:20].sum()], [right[20:].sum(), 40 - right[20:].sum()]]
    ).pvalue
    assert found.rows[0].p == pytest.approx(holm([p, p])[0])
    told = json.loads(json.dumps(found.to_json()))
    assert set(told["slices"][0]) == {"column", "value", "n", "units", *found.rows[0].figures, "p"}
    assert told["exact_match"] == found.value


def test_numbers_are_cut_at_their_quartiles_and_missing_ones_are_a_slice() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.arange(100, 200)).astype(float).tolist() + [float("nan")] * 12
    found = slices({"size": sizes}, answers(rng.integers(0, 2, 112).tolist()))
    edges = {row.value: row.n for row in found.rows}
    assert edges == {"100 to 124": 25, "125 to 149": 25, "150 to 174": 25, "175 to 199": 25, "(none)": 12}
    large = slices({"bytes": [5_038_850.0 + i for i in range(40)]}, answers([1] * 40))
    assert {row.value for row in large.rows} >= {"5038850 to 5038859"}
    few = slices({"floor": [float(i % 3) for i in range(60)]}, answers([1] * 60))
    assert {row.value for row in few.rows} == {"0", "1", "2"}
    names = slices({"site": [f"{i % 9:03}" for i in range(180)]}, answers([1] * 180))
    assert {row.value for row in names.rows} == {f"{i:03}" for i in range(9)}


def test_quarters_of_large_numbers_that_six_digits_do_not_tell_apart_are_slices_of_their_own() -> None:
    seconds = (1_700_000_000.5 + np.arange(80)).tolist()
    named = np.repeat([1, 0, 0, 0], 20)
    found = slices({"taken": seconds}, said(np.zeros(80, int), named))
    assert [row.n for row in found.rows] == [20, 20, 20, 20]
    assert found.rows[0].value == "1700000000.5 to 1700000019.5"
    assert found.rows[0].figures["accuracy"].value == 0


def test_what_is_not_cut_is_named_with_the_reason() -> None:
    n = 120
    columns = {
        "file id": [f"id-{i}" for i in range(n)],
        "country": ["FI"] * n,
        "site": ["north"] * 113 + ["south"] * 7,
    }
    found = slices(columns, answers([1] * n))
    assert [name for name, _ in found.left_out] == ["file id", "country"]
    assert found.too_small == (("site", "south", 7),)
    assert [row.value for row in found.rows] == ["north"]
    notes = " ".join(found.notes())
    for words in (
        "'file id' not cut into slices: it has 120 values",
        "1 slice of fewer than 10 pictures not shown: site=south (7)",
    ):
        assert words in notes


def test_every_kind_of_missing_value_is_one_slice() -> None:
    columns = {"site": [None, "", " ", pd.NA, pd.NaT, float("nan")] * 2 + ["x"] * 12}
    found = slices(columns, answers([1] * 24))
    assert {(row.value, row.n) for row in found.rows} == {("(none)", 12), ("x", 12)}


def test_cells_that_hold_several_things_are_values_like_any_other() -> None:
    columns = {
        "tags": [np.array(["a", "b"]), [["c"], [1, 2]], {"d": 1}] * 12,
        "box": [np.array([1.0])] * 18 + [[2.0, 3.0]] * 18,
    }
    found = slices(columns, answers([1] * 36))
    assert {row.n for row in found.rows if row.column == "tags"} == {12}
    assert {row.value for row in found.rows if row.column == "box"} == {"[1.]", "[2.0, 3.0]"}


def test_json_holds_the_whole_and_nothing_to_cut_is_no_error() -> None:
    found = slices({"camera": ["a", "b"] * 20}, answers([1] * 40))
    text = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert text["slices"][0]["accuracy"]["value"] == 1.0
    assert slices({}, answers([1, 0])).rows == ()
    assert slices({}, answers([1, 0])).notes() == []


def test_in_data_without_any_difference_a_slice_is_called_worse_in_at_most_one_run_in_twenty() -> None:
    rng = np.random.default_rng(1)
    runs, alarms = 300, 0
    for _ in range(runs):
        columns = {name: rng.integers(0, 4, 240).astype(str).tolist() for name in ("a", "b", "c")}
        found = slices(columns, answers((rng.random(240) < 0.85).astype(int).tolist()))
        alarms += any(row.p < 0.05 for row in found.rows)
    # Nine in ten of what a fair 5 % gives at most: 22 of 300.
    assert alarms <= stats.binom.ppf(0.95, runs, 0.05)


def test_frames_of_one_film_make_no_slice_sure() -> None:
    # Of one camera a film of 20 frames was named wrong, of the other none of two.
    right = [1] * 40 + [0] * 20 + [1] * 20
    outcomes = answers(right)
    films = Outcomes(
        outcomes.classes, outcomes.paths, outcomes.targets, outcomes.probabilities, units=np.repeat(np.arange(4), 20)
    )
    camera = {"camera": ["phone"] * 40 + ["trap"] * 40}
    alone, together = slices(camera, outcomes).rows[0], slices(camera, films).rows[0]
    assert (alone.value, together.value, alone.n, together.n, together.units) == ("trap", "trap", 40, 40, 2)
    assert alone.p < 1e-5
    assert together.p == 1.0  # a film right and a film wrong against two that are right
    before, after = alone.figures["accuracy"], together.figures["accuracy"]
    assert before.value == after.value == 0.5
    assert after.high - after.low > 2 * (before.high - before.low)
