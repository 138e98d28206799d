"""What a comparison concludes from its scores: order, tests of pairs, the recommendation, and the picture."""

from __future__ import annotations

import inspect
import io
import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

from headstart.core.intervals import paired_difference, wilson
from headstart.core.labels import mean_average_precision
from headstart.core.metrics import Figure
from headstart.core.significance import corrected_t_test, holm
from headstart.learn.compare.comparison import (
    BackboneFacts,
    Choice,
    Comparison,
    Pair,
    Scored,
    order,
    recommend,
    test_pairs,
)
from headstart.learn.compare.figures import (
    accuracy_over_repeats,
    fold_scores,
    log_loss,
    precision_over_folds,
    right_by_repeat,
)
from headstart.learn.compare.scatter import MARKS, draw_comparison
from headstart.learn.features.speed import Speed

test_pairs.__test__ = False  # a function of the project, not a test
NOISE = np.array([0.0, 0.01, -0.01, 0.02, -0.02] * 5)


def scored(
    backbone: str,
    accuracy: float,
    *,
    head: str = "linear",
    method: str = "frozen",
    megabytes: float = 14.0,
    turn: int = 0,
) -> Scored:
    folds = accuracy + np.roll(NOISE, turn)[: 25 if method == "frozen" else 5]
    figure = Figure(accuracy, *wilson(accuracy * 200, 200))
    return Scored(Choice(backbone, head, method), folds, figure, 0.1, megabytes, 1.0)


def facts(**speeds: float) -> dict[str, BackboneFacts]:
    return {
        name: BackboneFacts(name, Speed(speed, speed, speed, "openvino float32"), (224, 224), "Apache-2.0", "here")
        for name, speed in speeds.items()
    }


def concluded(choices: list[Scored], backbones: dict[str, BackboneFacts], headline: str = "accuracy") -> Comparison:
    ordered = order(choices)
    pairs = test_pairs(ordered, 0.25, 5, None)
    chosen, why = recommend(ordered, pairs, backbones, headline)
    return Comparison(
        "insects", ("ant", "bee"), headline, 200, 50, 5, 5, tuple(ordered), backbones, tuple(pairs), (), chosen, why
    )


def test_the_highest_score_stands_first_and_log_loss_breaks_ties() -> None:
    low, high = scored("a", 0.9), scored("b", 0.95)
    sure = Scored(low.choice, low.folds, low.score, 0.05, 14.0, 1.0)
    assert order([low, high, sure]) == [high, sure, low]


def test_the_interval_over_repeats_holds_the_accuracy_on_new_pictures_in_about_19_of_20_runs() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % 2
        return rng.normal(size=(n, 4)) + 0.8 * (2 * y[:, None] - 1), y

    def right(x: np.ndarray, y: np.ndarray, new: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Nearest class mean, a learner that takes no time."""
        means = np.stack([x[y == label].mean(0) for label in (0, 1)])
        return ((new[:, None] - means) ** 2).sum(2).argmin(1) == labels

    n, runs, held = 60, 300, 0
    new, labels = draw(4000)
    for _ in range(runs):
        x, y = draw(n)
        hits = np.zeros((5, n), bool)
        for repeat in range(5):
            for part in np.array_split(rng.permutation(n), 5):
                inside = np.setdiff1d(np.arange(n), part)
                hits[repeat, part] = right(x[inside], y[inside], x[part], y[part])
        found = accuracy_over_repeats(hits)
        assert found.value == pytest.approx(hits.mean())
        held += found.low <= right(x, y, new, labels).mean() <= found.high
    assert 0.92 <= held / runs <= 0.99


def test_with_several_labels_a_fold_has_its_mean_average_precision_and_the_log_loss_of_an_entry() -> None:
    rng = np.random.default_rng(0)
    judged = []
    for size in (30, 31):
        labels = rng.random((size, 3)) < 0.4
        judged.append((labels, np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0.01, 0.99).astype(np.float32)))
    expected = [reference.average_precision_score(labels, said) for labels, said in judged]
    assert fold_scores(judged).tolist() == pytest.approx(expected)
    entries = [np.concatenate([part.ravel() for part in parts]) for parts in zip(*judged, strict=True)]
    assert log_loss(judged) == pytest.approx(reference.log_loss(*entries), rel=1e-6)


def test_the_interval_of_the_mean_average_precision_holds_that_of_the_model_on_new_pictures() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.random((n, 3)) < 0.3
        return np.c_[rng.normal(size=(n, 3)) + 2.5 * labels, np.ones(n)], labels

    def judge(x: np.ndarray, labels: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Least squares a label, a learner that takes no time."""
        return new @ np.linalg.solve(x.T @ x + np.eye(4), x.T @ labels)

    n, runs, held = 100, 120, 0
    new, truth = draw(4000)
    for _ in range(runs):
        x, labels = draw(n)
        parts = [part for _ in range(5) for part in np.array_split(rng.permutation(n), 5)]
        insides = [np.setdiff1d(np.arange(n), part) for part in parts]
        judged = [
            (labels[part], judge(x[inside], labels[inside], x[part]))
            for inside, part in zip(insides, parts, strict=True)
        ]
        found = precision_over_folds(fold_scores(judged), 0.25, labels.sum(axis=0))
        held += found.low <= mean_average_precision(truth, judge(x, labels, new)) <= found.high
    assert 0.9 <= held / runs < 1


def test_folds_that_are_all_perfect_leave_an_interval_as_wide_as_the_rarest_labels_ask_for() -> None:
    few, many = (precision_over_folds(np.ones(25), 0.25, np.array(support)) for support in ([9, 200], [150, 200]))
    assert few.value == many.value == few.high == 1.0
    assert 0.8 < few.low < many.low < 1.0


def test_every_pair_is_tested_on_the_folds_that_both_ran_on_and_corrected_for_all_of_them() -> None:
    choices = [scored("a", 0.95), scored("a", 0.93, head="mlp", turn=1), scored("b", 0.9, method="finetune", turn=2)]
    pairs = test_pairs(choices, 0.25, 5, None)
    assert [(pair.better, pair.worse) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    by_hand = [
        corrected_t_test(choices[0].folds, choices[1].folds, 0.25, 5),
        corrected_t_test(choices[0].folds[:5], choices[2].folds, 0.25, 5),
        corrected_t_test(choices[1].folds[:5], choices[2].folds, 0.25, 5),
    ]
    assert [pair.difference for pair in pairs] == by_hand
    assert [pair.p for pair in pairs] == pytest.approx(holm([one.p for one in by_hand]).tolist())


def test_the_fastest_of_those_within_one_standard_error_is_recommended() -> None:
    # -0.005 with a standard error of about 0.015: fast is near enough, far is not.
    choices = [scored("best", 0.95), scored("fast", 0.945, turn=1), scored("far", 0.85, turn=2)]
    found = concluded(choices, facts(best=50.0, fast=100.0, far=500.0))
    assert found.scored[found.recommended].choice.backbone == "fast"
    assert "2.0 times as fast" in found.why
    assert "the difference is -0.005" in found.why
    far = next(pair for pair in found.pairs if found.scored[pair.worse].choice.backbone == "far" and pair.better == 0)
    assert far.p < 0.05


def test_speeds_that_a_second_measurement_would_turn_round_do_not_decide() -> None:
    alike = [scored("best", 0.95, megabytes=14.0), scored("other", 0.949, megabytes=14.5, turn=1)]
    assert concluded(alike, facts(best=100.0, other=105.0)).recommended == 0
    # But a size is a size: of equally good heads the smaller one.
    heads = [scored("a", 0.95, head="mlp", megabytes=15.0), scored("a", 0.949, megabytes=13.7, turn=1)]
    found = concluded(heads, facts(a=100.0))
    assert found.scored[found.recommended].choice.head == "linear"
    smaller = [scored("best", 0.95, megabytes=60.0), scored("small", 0.949, megabytes=14.0, turn=1)]
    found = concluded(smaller, facts(best=100.0, small=95.0))
    assert found.recommended == 1
    assert "smaller (14.0 MB instead of 60.0 MB)" in found.why


def test_fine_tuning_that_gains_nothing_sure_is_not_recommended() -> None:
    choices = [scored("a", 0.95, method="finetune"), scored("a", 0.948, turn=1)]
    found = concluded(choices, facts(a=100.0))
    assert found.scored[found.recommended].choice.method == "frozen"
    assert "without fine-tuning" in found.why


def test_the_reason_says_when_nothing_else_came_near() -> None:
    alone = concluded([scored("a", 0.95)], facts(a=10.0))
    assert (alone.recommended, alone.pairs, alone.why) == (0, (), "it is the only choice that was run")
    clear = concluded([scored("slow", 0.97), scored("fast", 0.85, turn=1)], facts(slow=10.0, fast=900.0))
    assert clear.recommended == 0
    assert "no other is within one standard error" in clear.why


def always_apart(first: int, second: int, n: int = 200) -> tuple[Scored, Scored]:
    """Return two choices that name so many of n pictures right in every repeat, and differ as much in every fold."""
    best, other = scored("a", first / n), scored("b", second / n)  # the same noise
    right = [np.tile(np.arange(n) < hits, (5, 1)) for hits in (first, second)]
    return replace(best, right=right[0]), replace(other, right=right[1])


def test_a_difference_without_variance_is_not_taken_for_none() -> None:
    best, other = scored("a", 0.95), scored("b", 0.93)  # the same noise: always 0.02 apart
    pairs = test_pairs([best, other], 0.25, 5, None)
    assert (pairs[0].difference.low, pairs[0].difference.standard_error) == (None, None)
    assert recommend([best, other], pairs, facts(a=10.0, b=100.0), "accuracy")[0] == 0
    json.dumps(concluded([best, other], facts(a=10.0, b=100.0)).to_json(), allow_nan=False)


def test_a_difference_without_variance_has_the_interval_of_its_pictures() -> None:
    (pair,) = test_pairs(list(always_apart(190, 186)), 0.25, 5, None)
    assert (pair.difference.low, pair.difference.high) == pytest.approx(paired_difference(4, 0, 200))
    assert pair.difference.standard_error == pytest.approx(np.diff(paired_difference(4, 0, 200))[0] / 2 / 1.959964)
    perfect = test_pairs(list(always_apart(128, 128, 128)), 0.25, 5, None)
    d = perfect[0].difference
    assert d.value == 0.0
    assert d.low < -0.01 < 0.01 < d.high
    # Of a fast one that is as good the table now says so with a width.
    assert recommend(list(always_apart(128, 128, 128)), perfect, facts(a=10.0, b=100.0), "accuracy")[0] == 1
    # Crops of 16 photos say less than 128 pictures.
    (cropped,) = test_pairs(list(always_apart(128, 128, 128)), 0.25, 5, np.repeat(np.arange(16), 8))
    assert cropped.difference.high > 3 * d.high


def test_crops_of_one_photo_make_an_accuracy_no_surer() -> None:
    right = np.tile(np.arange(160) >= 8, (5, 1))  # all crops of one photo of twenty are wrong
    alone, together = (accuracy_over_repeats(right, units) for units in (None, np.repeat(np.arange(20), 8)))
    assert alone.value == together.value == 0.95
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_what_each_repeat_named_right_stands_in_the_order_of_the_pictures() -> None:
    y = np.array([0, 1, 0, 1])
    parts = [np.array([2, 0]), np.array([1, 3]), np.array([3, 2]), np.array([0, 1])]
    named = {2: 0, 0: 1, 1: 1, 3: 0}  # 1 and 2 are right
    judged = [(y[part], np.eye(2)[[named[row] for row in part.tolist()]]) for part in parts]
    assert right_by_repeat(judged, parts, 4).tolist() == [[False, True, True, False]] * 2


def test_the_json_is_plain_and_tells_what_the_table_tells() -> None:
    found = concluded([scored("a", 0.95), scored("b", 0.9, turn=1)], facts(a=10.0, b=100.0))
    whole = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["backbone"] for row in whole["choices"]] == ["a", "b"]
    assert whole["choices"][0]["against_best"] is None
    pair: Pair = found.pairs[0]
    assert whole["choices"][1]["against_best"]["p"] == pair.p
    assert whole["choices"][1]["against_best"]["p_uncorrected"] == pair.difference.p
    assert whole["test_pictures_untouched"] == 50
    assert whole["recommended"]["why"] == found.why


def test_where_pictures_have_several_labels_nothing_speaks_of_accuracy(tmp_path, monkeypatch) -> None:
    from headstart.learn.compare import scatter

    found = concluded([scored("a", 0.95), scored("b", 0.945, turn=1)], facts(a=10.0, b=100.0), "mean_average_precision")
    whole = found.to_json()
    assert whole["headline"] == "mean_average_precision"
    assert whole["choices"][0]["mean_average_precision"]["value"] == 0.95
    assert len(whole["choices"][0]["mean_average_precision_by_fold"]) == 25
    assert "its mean average precision is within one standard error of the highest" in found.why
    assert "accura" not in str(whole)
    words = []
    original = scatter._legend

    def spy(axes, comparison) -> None:
        words.extend([axes.get_title(loc="left"), axes.get_ylabel()])
        original(axes, comparison)

    monkeypatch.setattr(scatter, "_legend", spy)
    draw_comparison(found, tmp_path / "picture.png")
    assert words == [
        "insects: mean average precision against speed",
        "mean average precision on held-out pictures",
    ]


def text_boxes(monkeypatch: pytest.MonkeyPatch, comparison: Comparison, file: Path) -> tuple[list, list, object]:
    """Draw, and return the boxes of the backbones' names, of the marks and of the names' lines, and of the picture."""
    from headstart.learn.compare import scatter

    kept = {}
    original = scatter._name_backbones

    def spy(axes, comparison, places) -> None:
        original(axes, comparison, places)
        renderer = axes.figure.canvas.get_renderer()
        kept["names"] = [label.get_window_extent(renderer) for label in axes.texts if "/s" in label.get_text()]
        kept["marks"] = [scatter._drawn(axes, one, places[place]) for place, one in enumerate(comparison.scored)]
        below = [line for line in axes.lines if line.get_color() == scatter.SOFT]
        kept["marks"] += [line.get_window_extent(renderer) for line in below]
        assert len(below) == len(kept["names"])
        kept["whole"] = axes.figure.bbox

    monkeypatch.setattr(scatter, "_name_backbones", spy)
    draw_comparison(comparison, file)
    return kept["names"], kept["marks"], kept["whole"]


def test_no_name_in_the_picture_covers_another_one_or_an_interval(tmp_path, monkeypatch) -> None:
    speeds = {
        "efficientnet_lite0": 150.0,
        "efficientnet_lite1": 146.0,
        "efficientnet_lite2": 140.0,
        "vgg16.keras": 15.0,
    }
    choices = [
        scored(name, 0.93 + 0.007 * index + 0.004 * turn, head=head, turn=turn)
        for index, name in enumerate(speeds)
        for turn, head in enumerate(MARKS)
    ]
    names, marks, whole = text_boxes(monkeypatch, concluded(choices, facts(**speeds)), tmp_path / "picture.png")
    assert len(names) == 4
    boxes = [*names, *marks]
    clashes = [
        (a, b) for a, name in enumerate(names) for b, other in enumerate(boxes) if a != b and name.overlaps(other)
    ]
    assert clashes == []
    assert all(name.x0 >= 0 and name.x1 <= whole.x1 and name.y1 <= whole.y1 for name in names)


def test_every_head_is_drawn_in_its_colour(tmp_path) -> None:
    choices = [scored("a", 0.95 - 0.01 * turn, head=head, turn=turn) for turn, head in enumerate(MARKS)]
    draw_comparison(concluded(choices, facts(a=100.0)), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour, _ in MARKS.values():
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 100


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "'my pictures'"),
        ({"seed": 7, "test_size": 0.3}, "'my pictures' --test-size 0.3 --seed 7"),
        ({"validation_size": 0.1, "device": "cpu"}, "'my pictures' --validation-size 0.1 --device cpu"),
    ],
)
def test_the_next_command_learns_from_the_pictures_that_were_compared_on(settings: dict, told: str) -> None:
    from headstart.cli import compare as command
    from headstart.learn.several import SeveralLabels

    given = {option.name: option.default for option in command.command.params} | settings
    assert command._same_data("my pictures", None, given) == told
    several = command._same_data("my pictures", SeveralLabels(separator="|"), given)
    assert shlex.split(several)[:5] == ["my pictures", "--output", "multilabel", "--label-separator", "|"]


def test_the_options_have_the_defaults_of_the_function_and_of_a_fit() -> None:
    from headstart.classifier import ImageClassifier
    from headstart.cli import compare as command
    from headstart.learn.compare import compare

    options = command.command.make_context("compare", ["data"]).params
    function = {name: parameter.default for name, parameter in inspect.signature(compare).parameters.items()}
    shared = options.keys() & function.keys() - {"data", "labels"}
    assert {"backbones", "heads", "methods", "folds", "validation_size", "test_size", "seed"} <= shared
    assert {name: options[name] for name in shared} == {name: function[name] for name in shared}
    fit = ImageClassifier().get_params()
    assert (options["backbones"], options["heads"]) == ((fit["backbone"],), (fit["head"],))
    for name in ("validation_size", "test_size", "seed", "device", "precision"):
        assert options[name] == fit[name], name


def test_in_a_narrow_window_the_table_has_all_figures_in_80_columns() -> None:
    from rich.console import Console

    from headstart.cli import compare as command

    choices = [
        scored("efficientnet_lite2", 0.95, head="prototype", method="finetune"),
        scored("efficientnet_lite0", 0.91, turn=1),
    ]
    found = concluded(choices, facts(efficientnet_lite2=10.0, efficientnet_lite0=100.0))
    shown = {}
    for width in (160, 80):
        console = Console(width=width, file=io.StringIO())
        console.print(command._choices(found, width))
        shown[width] = console.file.getvalue()
    pair = found.against_best(1)
    for text in shown.values():
        for part in (
            "efficientnet_lite0",
            "0.910 (0.862 to 0.942)",
            pair.difference.text,
            f"{pair.p:.2g}",
            "the highest",
        ):
            assert part in text
    wide, narrow = (text.splitlines() for text in shown.values())
    assert len(wide) == 3  # a head and a line each
    assert max(len(line.rstrip()) for line in wide) > 80 >= max(len(line.rstrip()) for line in narrow)
