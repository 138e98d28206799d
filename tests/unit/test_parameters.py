"""The parameters of `ImageClassifier`: whatever is given, what cannot work is told early, together, and by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headstart.classifier import ImageClassifier
from headstart.core.errors import SettingError
from headstart.learn import parameters
from headstart.learn.kinds import KINDS

DEFAULTS = ImageClassifier().get_params()
# None of these is right for any parameter …
NEVER = [object(), b"avg", float("nan"), float("inf"), np.array([1, 2]), {1: object()}, [None], ({},), True]
# … and these are for some.
SOMETIMES = [None, "x", "", 1, -1, 1.5, [], {}, (), [1], ["x"], (1, 2), (64, "x"), {"x": "y"}, {"x": 1}, np.int64(5)]


def beside(name: str) -> dict[str, Any]:
    """Return what else must be given for a parameter to be looked at."""
    if name in ("hidden", "dropout", "epochs", "batch_size", "learning_rate"):
        return {"head": "mlp"}
    return {"output": "multilabel"} if name in ("label_columns", "label_separator") else {}


def told(**given: Any) -> str:
    """Return what is said of parameters that cannot work; nothing where they can."""
    try:
        parameters.check(ImageClassifier(**given))
    except SettingError as error:
        return str(error)
    return ""


def test_every_parameter_has_a_kind() -> None:
    assert {*KINDS, "unfreeze"} == set(DEFAULTS)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_value_of_the_wrong_kind_is_told_with_its_parameter(name: str) -> None:
    for value in NEVER:
        said = told(**{**beside(name), name: value})
        assert name in said, f"{value!r}: {said}"
        assert "give" in said or "did you mean" in said
    for value in SOMETIMES:  # whatever is said, it is a SettingError
        told(**{**beside(name), name: value})
    assert told() == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": "x"}, "seed is 'x': give a whole number from 0 to 4294967295."),
        ({"seed": -1}, "seed is -1: give a whole number from 0 to 4294967295."),
        ({"seed": 1.0}, "seed is 1.0: give a whole number from 0 to 4294967295."),
        ({"seed": True}, "seed is True: give a whole number from 0 to 4294967295."),
        ({"test_size": "0.2"}, "test_size is '0.2': give a share between 0 and 1."),
        ({"class_weight": {"cat": 0}}, "class_weight is {'cat': 0}: give None, 'balanced' or weights above 0"),
        ({"class_weight": {0: 2.0}}, "weights above 0 by class name"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number from 1."),
        ({"epochs": 0}, "epochs is 0: give a whole number from 1."),
        ({"hidden": (8, 0)}, "hidden is (8, 0): give whole numbers from 1, such as (256,)."),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: give None or a number above 0, such as 0.001."),
        ({"dropout": 1.0}, "dropout is 1.0: give a share from 0 to below 1."),
        ({"dropout": 10**400}, "dropout is 1000"),
        ({"label_columns": "red", "output": "multilabel"}, "label_columns is 'red': give None or a list of columns'"),
        ({"training": "epochs=3"}, "training is 'epochs=3': give None or a dictionary, such as {'epochs': 10}."),
        ({"training": {"unfreeze": 1.5}}, "training: unfreeze is 1.5: give a number of layers"),
        ({"unfreeze": ["blocks.6"]}, "unfreeze has 'blocks.6': give pairs"),
        ({"seed": np.zeros((50, 50))}, "seed is array([[0., 0., 0., ..., 0., 0., 0.]"),
    ],
)
def test_a_message_says_the_value_and_what_to_give(given: dict[str, Any], words: str) -> None:
    said = told(**given)
    assert words in said
    assert "\n" not in said


def test_all_that_cannot_work_is_told_together() -> None:
    said = told(seed="x", backbone=3, head="linaer", views=0, test_size=None, augmentation="fliip", unfreeze=2.5)
    lines = said.split("\n")
    assert len(lines) == 7
    for words in ("seed is 'x'", "backbone is 3", "'linaer'", "views is 0", "test_size is None", "'fliip'", "2.5"):
        assert sum(words in line for line in lines) == 1


def test_a_subclass_may_take_fewer_parameters() -> None:
    class Quick(ImageClassifier):
        def __init__(self, seed: int = 0, budget: str | None = None) -> None:
            super().__init__(method="frozen", head="mlp", batch_size=0, seed=seed, budget=budget)

    assert set(parameters.all_values(Quick())) == set(DEFAULTS)
    with pytest.raises(SettingError, match=r"batch_size is 0: .*\n  seed is 'x': "):
        parameters.check(Quick("x"))


def test_numbers_of_numpy_are_numbers() -> None:
    given = ImageClassifier(
        head="mlp",
        hidden=(np.int64(8),),
        epochs=np.int32(2),
        learning_rate=np.float32(0.5),
        image_size=np.int64(64),
        augmentation="flip",
        views=np.int64(2),
        seed=np.uint8(3),
        validation_size=np.float32(0.25),
    )
    parameters.check(given)
    assert parameters.new_head(given) == parameters.new_head(
        ImageClassifier(head="mlp", hidden=(8,), epochs=2, learning_rate=0.5)
    )
    assert (parameters.feature_settings(given).views, parameters.feature_settings(given).seed) == (2, 3)
