"""What people are told of one picture: label, set, unknown."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from headstart.core.answers import Thresholds, answer
from headstart.core.outcomes import Outcomes

CLASSES = ("ant", "bee", "cat")
P = np.array([0.2, 0.7, 0.1], np.float32)


def test_a_model_that_says_nothing_of_sets_and_novelty_leaves_them_out() -> None:
    told = answer(P, None, CLASSES, Thresholds.of({})).to_json()
    assert told == {"label": "bee", "probabilities": {"bee": 0.7, "ant": 0.2, "cat": 0.1}}
    assert list(told["probabilities"]) == ["bee", "ant", "cat"]


def test_the_set_has_every_class_above_the_threshold_most_probable_first() -> None:
    thresholds = Thresholds.of({"confidence": {"conformal": {"threshold": 0.15}}})
    assert answer(P, None, CLASSES, thresholds).to_json(top=1) == {
        "label": "bee",
        "probabilities": {"bee": 0.7},
        "set": ["bee", "ant"],
    }


@pytest.mark.parametrize(("novelty", "threshold", "unknown"), [(0.6, 0.5, True), (0.5, 0.5, False), (9.0, None, None)])
def test_unknown_is_what_exceeds_the_models_threshold(
    novelty: float, threshold: float | None, unknown: bool | None
) -> None:
    thresholds = Thresholds.of({"confidence": {"novelty": {"threshold": threshold}}})
    told = answer(P, novelty, CLASSES, thresholds).to_json()
    # Without a threshold nothing is said: False would be a statement.
    assert told.get("unknown") is unknown
    assert ("unknown" in told) == (unknown is not None)
    assert told["novelty"] == novelty


def test_of_equally_probable_classes_the_first_is_named_as_everywhere_else() -> None:
    told = answer(np.array([0.4, 0.2, 0.4], np.float32), None, CLASSES, Thresholds(set_probability=0.9))
    assert told.label == "ant"
    assert told.prediction_set == ("ant",)


@pytest.mark.parametrize("confidence", [[1], {"novelty": 3}, {"conformal": {"threshold": "0.5"}}])
def test_thresholds_of_the_wrong_type_are_told(confidence: object) -> None:
    with pytest.raises(TypeError, match="wrong type"):
        Thresholds.of({"confidence": confidence})


def test_outcomes_are_written_as_a_table_without_the_users_own_folders(tmp_path) -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]], np.float32)
    paths = ("/home/someone/pictures/ant/a,1.jpg", "/home/someone/pictures/bee/\udcff.jpg")
    outcomes = Outcomes(CLASSES, paths, np.array([0, 1]), probabilities, np.array([0.25, 0.5], np.float32))
    outcomes.write_csv(tmp_path, {paths[1]: "0123456789abcdef" * 2})
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["ant/a,1.jpg", "bee/\\udcff.jpg"]
    assert [(row["label"], row["predicted"], float(row["probability"]), float(row["novelty"])) for row in rows] == [
        ("ant", "ant", 0.9, 0.25),
        ("bee", "cat", 0.5, 0.5),
    ]
    assert [row["digest"] for row in rows] == ["", "0123456789abcdef"]
    assert outcomes.right.tolist() == [True, False]
