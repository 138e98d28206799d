"""The parameters of `ImageClassifier`: whatever is given, what cannot work is told early, together, and by name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pytest

from headstart.classifier import ImageClassifier
from headstart.cli import compare, fit
from headstart.core.errors import SettingError
from headstart.learn import parameters
from headstart.learn.finetune.settings import complete
from headstart.learn.given import overlay
from headstart.learn.heads import HEADS, PrototypeHead
from headstart.learn.kinds import KINDS

DEFAULTS = ImageClassifier().get_params()
# None of these is right for any parameter …
NEVER = [object(), b"avg", float("nan"), float("inf"), np.zeros((2, 2)), {1: object()}, [None], ({},), True]
# … and these are for some.
SOMETIMES = [
    None,
    "x",
    "",
    1,
    -1,
    1.5,
    [],
    {},
    (),
    [1],
    np.array([1, 2]),
    np.array(["x"]),
    ["x"],
    (1, 2),
    (64, "x"),
    {"x": "y"},
    {"x": 1},
    np.int64(5),
]


def beside(name: str) -> dict[str, Any]:
    """Return what else must be given for a parameter to be looked at."""
    if name in ("hidden", "dropout", "epochs", "batch_size", "learning_rate", "patience"):
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
        assert any(words in said for words in ("give", "did you mean", "lists all"))
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
        ({"patience": -1}, "patience is -1: give a whole number from 0."),
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


IDLE = {
    "hidden": ({"head": "linear", "hidden": (8,)}, "hidden is given, and head linear has no hidden layers"),
    "dropout": ({"head": "prototype", "dropout": 0.1}, "dropout is given, and head prototype has no hidden layers"),
    "unfreeze": ({"method": "frozen", "unfreeze": 4}, "unfreeze is given, and method frozen does not fine-tune"),
    "training": ({"method": "frozen", "training": {"ema": 0.9}}, "training is given, and method frozen does not"),
    "budget": ({"method": "frozen", "budget": "10m"}, "budget is given, and method frozen does not fine-tune"),
    "epochs": ({"method": "frozen", "epochs": 20}, "epochs is given, and neither method frozen nor head linear"),
    "batch_size": ({"method": "frozen", "batch_size": 8}, "batch_size is given, and neither method frozen nor"),
    "learning_rate": ({"method": "frozen", "learning_rate": 1e-5}, "learning_rate is given, and neither method"),
    "patience": ({"method": "frozen", "patience": 3}, "patience is given, and neither method frozen nor head linear"),
    "views": ({"views": 1, "augmentation": "strong"}, "views is 1, the plain view, which is never augmented"),
    "augmentation": ({"views": 3, "augmentation": {"rotation": 0}}, "views is 3, but without augmentation all views"),
}


@pytest.mark.parametrize("name", IDLE)
def test_what_the_method_and_the_head_do_not_use_is_told(name: str) -> None:
    given, words = IDLE[name]
    said = told(**given)
    assert words in said
    assert "\n" not in said
    assert told(**{key: value for key, value in given.items() if key not in (name, "views")}) == ""


def test_epochs_are_those_of_fine_tuning_where_the_head_has_none() -> None:
    given = ImageClassifier(method="finetune", epochs=20, batch_size=np.int64(8), learning_rate=1e-5, patience=3)
    parameters.check(given)
    settings = parameters.training_settings(given)
    assert (settings.epochs, settings.batch_size, settings.learning_rate, settings.patience) == (20, 8, 1e-5, 3)
    filled = complete(settings, 1000, ("one", "two"))
    assert filled.backbone_learning_rate == pytest.approx(3e-6)  # as the rates are without being given: 3e-4 and 1e-3
    assert parameters.hints(given) == []


@pytest.mark.parametrize("method", ["auto", "finetune"])
def test_epochs_are_those_of_the_mlp_head_where_there_is_one_and_that_is_said(method: str) -> None:
    given = ImageClassifier(method=method, head="mlp", epochs=20, batch_size=8, training={"batch_size": 4})
    parameters.check(given)
    head, settings = parameters.new_head(given), parameters.training_settings(given)
    assert (head.epochs, head.batch_size, settings.epochs, settings.batch_size) == (20, 8, None, 4)
    assert parameters.hints(given) == ["epochs is that of the mlp head; fine-tuning has its own: --training epochs=20."]
    scheduled = ImageClassifier(method=method, head="mlp", epochs=20, unfreeze=[("head", 2)])
    assert parameters.hints(scheduled) == []
    assert parameters.hints(ImageClassifier(method="frozen", head="mlp", epochs=20)) == []


def test_patience_is_that_of_the_mlp_head_where_there_is_one() -> None:
    given = ImageClassifier(method="frozen", head="mlp", patience=np.int64(3))
    parameters.check(given)
    assert parameters.new_head(given).patience == 3
    tuned = ImageClassifier(method="finetune", head="mlp", patience=3, training={"patience": 5})
    assert (parameters.new_head(tuned).patience, parameters.training_settings(tuned).patience) == (3, 5)
    assert "patience is given by itself and in training" in told(patience=3, training={"patience": 5})
    assert "patience" in told(method="finetune", patience=100_001)  # more than fine-tuning takes


def test_what_is_given_twice_is_told() -> None:
    assert "epochs is given by itself and in training" in told(epochs=3, training={"epochs": 5})
    assert told(head="mlp", epochs=3, training={"epochs": 5}) == ""
    assert "unfreeze is a list that says its epochs" in told(epochs=3, unfreeze=[("head", 2)])
    assert "unfreeze is a list that says its epochs" in told(epochs=3, training={"unfreeze": [("head", 2)]})
    for head in ("linear", "mlp"):
        said = told(head=head, unfreeze="blocks.6", training={"unfreeze": "head"})
        assert said == "unfreeze is given by itself and in training: leave one out."


@pytest.mark.parametrize(
    ("given", "views"),
    [
        ({"method": "frozen"}, 1),
        ({"method": "frozen", "augmentation": "strong"}, 4),
        ({"method": "frozen", "augmentation": {"rotation": 15}, "head": "mlp"}, 4),
        ({"method": "frozen", "augmentation": "strong", "head": "mlp", "epochs": 3}, 3),
        ({"method": "frozen", "augmentation": "strong", "views": 9}, 9),
        ({"method": "finetune", "augmentation": "strong"}, 4),  # of the head; training chooses by where it is cut
        ({"method": "frozen", "augmentation": "none"}, 1),
    ],
)
def test_augmentation_without_views_has_some(given: dict[str, Any], views: int) -> None:
    classifier = ImageClassifier(**given)
    parameters.check(classifier)
    assert parameters.feature_settings(classifier).views == views
    told = views > 1 and "views" not in given and given["method"] == "frozen"  # fine-tuning tells its own
    assert any("augmented" in hint for hint in parameters.hints(classifier)) == told


def test_one_epoch_of_the_head_does_not_see_the_augmentation_and_that_is_said() -> None:
    for epochs, told in ((1, True), (2, False)):
        given = ImageClassifier(method="frozen", augmentation="flip", head="mlp", epochs=epochs)
        assert any("the augmentation does nothing" in hint for hint in parameters.hints(given)) == told
    assert not parameters.hints(ImageClassifier(method="frozen", head="mlp", epochs=1))


def test_sequences_of_any_kind_are_sequences() -> None:
    import pandas as pd

    for sizes in ([8, 4], np.array([8, 4]), pd.Series([8, 4]), range(8, 0, -4)):
        given = ImageClassifier(head="mlp", hidden=sizes, image_size=np.array([64, 96]))
        parameters.check(given)
        assert parameters.new_head(given) == parameters.new_head(ImageClassifier(head="mlp", hidden=(8, 4)))
        json.dumps(parameters.all_values(given)["image_size"])
    for columns in (["red", "round"], np.array(["red", "round"]), pd.Index(["red", "round"])):
        given = ImageClassifier(output="multilabel", label_columns=columns)
        parameters.check(given)
        several = parameters.several_labels(given)
        assert several is not None
        assert several.columns == ("red", "round")


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        # Whose epochs they are does not change with the head.
        ({"head": "mlp", "hidden": [8], "epochs": 5}, {"head": "linear"}, {"head": "linear"}),
        ({"head": "mlp", "epochs": 5, "training": {"epochs": 3}}, {"head": "linear"},
         {"head": "linear", "training": {"epochs": 3}}),
        ({"epochs": 5}, {"head": "mlp"}, {"head": "mlp", "training": {"epochs": 5}}),
        ({"method": "finetune", "training": {"ema": 0.9}}, {"method": "frozen"}, {"method": "frozen"}),
        ({"training": {"epochs": 25, "ema": 0.9}}, {"epochs": 3}, {"training": {"ema": 0.9}, "epochs": 3}),
        ({"epochs": 25}, {"training": {"epochs": 3}}, {"training": {"epochs": 3}}),
        ({"training": {"epochs": 9, "ema": 0.9}}, {"training": {"epochs": 3}}, {"training": {"epochs": 3, "ema": 0.9}}),
        ({"head": "mlp", "epochs": 9, "training": {"epochs": 5}}, {"epochs": 3},
         {"head": "mlp", "epochs": 3, "training": {"epochs": 5}}),
        # Views and augmentation, a list and epochs.
        ({"views": 4, "augmentation": "flip"}, {"augmentation": "none"}, {"augmentation": "none"}),
        ({"views": 4, "augmentation": "flip"}, {"augmentation": {"rotation": 0}}, {"augmentation": {"rotation": 0}}),
        ({"views": 4, "augmentation": "flip"}, {"augmentation": "light"}, {"views": 4, "augmentation": "light"}),
        ({"views": 4, "augmentation": "flip"}, {"views": 1}, {"views": 1}),
        ({"views": 4, "augmentation": "flip"}, {"views": 2}, {"views": 2, "augmentation": "flip"}),
        ({"views": 4, "augmentation": "flip"}, {"augmentation": "flop"}, {"views": 4, "augmentation": "flop"}),
        ({"augmentation": "flip"}, {"views": 3, "augmentation": "none"}, {"views": 3, "augmentation": "none"}),
        ({"unfreeze": "all", "epochs": 9, "training": {"ema": 0.9}}, {"unfreeze": [["head", 2]]},
         {"unfreeze": [["head", 2]], "training": {"ema": 0.9}}),
        ({"unfreeze": "all", "training": {"epochs": 9, "ema": 0.9}}, {"unfreeze": [["head", 2]]},
         {"unfreeze": [["head", 2]], "training": {"ema": 0.9}}),
        ({"head": "mlp", "epochs": 9, "training": {"epochs": 5}}, {"unfreeze": [["head", 2]]},
         {"head": "mlp", "epochs": 9, "training": {}, "unfreeze": [["head", 2]]}),
        ({"epochs": 9}, {"unfreeze": "all"}, {"epochs": 9, "unfreeze": "all"}),
        ({"unfreeze": "all", "epochs": 9, "training": {"ema": 0.9}}, {"training": {"unfreeze": [["head", 2]]}},
         {"training": {"ema": 0.9, "unfreeze": [["head", 2]]}}),
        # What learns, by itself or in the table of settings: the upper one, wherever it stands.
        ({"unfreeze": "all", "training": {"ema": 0.9}}, {"training": {"unfreeze": "layer4"}},
         {"training": {"ema": 0.9, "unfreeze": "layer4"}}),
        ({"training": {"unfreeze": "all", "ema": 0.9}}, {"unfreeze": "layer4"},
         {"unfreeze": "layer4", "training": {"ema": 0.9}}),
        ({"head": "mlp", "unfreeze": "all"}, {"training": {"unfreeze": 4}},
         {"head": "mlp", "training": {"unfreeze": 4}}),
        ({"unfreeze": "all"}, {"unfreeze": 4, "training": {"unfreeze": 3}},
         {"unfreeze": 4, "training": {"unfreeze": 3}}),
        ({"epochs": 9}, {"unfreeze": [["head", 2]], "epochs": 4}, {"unfreeze": [["head", 2]], "epochs": 4}),
        # What is wrong in one of the two by itself stays, for the check to tell.
        ({"method": "frozen", "budget": "1m", "hidden": [8]}, {}, {"method": "frozen", "budget": "1m", "hidden": [8]}),
        ({"epochs": 3, "training": {"epochs": 4}}, {}, {"epochs": 3, "training": {"epochs": 4}}),
        ({"method": "frozen"}, {"training": {"epochs": 3}}, {"method": "frozen", "training": {"epochs": 3}}),
        ({}, {"epochs": 3, "training": {"epochs": 3}}, {"epochs": 3, "training": {"epochs": 3}}),
    ],
)  # fmt: skip
def test_what_is_laid_over_a_recipe_makes_the_rest_fit(lower, upper, expected) -> None:
    assert overlay(lower, upper) == expected


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


OF_HEADS = {"hidden": (8,), "dropout": 0.1, "epochs": 3, "batch_size": 8, "learning_rate": 0.1, "patience": 2}


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_taken_and_what_it_has_no_use_for_is_told(name: str) -> None:
    assert told(head=name) == ""
    takes = {field.name for field in fields(HEADS[name])}
    for setting, value in OF_HEADS.items():
        said = told(method="frozen", head=name, **{setting: value})
        assert (said == "") == (setting in takes), said
        assert setting in takes or f"{setting} is given, and" in said


def test_a_head_that_is_added_to_the_registry_is_checked_as_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Nearest(PrototypeHead):
        name: ClassVar[str] = "nearest"

    assert "unknown head 'nearest'" in told(head="nearest")
    monkeypatch.setitem(HEADS, "nearest", Nearest)
    assert told(head="nearest") == ""
    assert "hidden is given, and head nearest has no hidden layers" in told(head="nearest", hidden=(8,))


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_named_wherever_one_is_chosen(name: str) -> None:
    options = {option.name: option for command in (fit, compare) for option in command.command.params}
    for text in (options["head"].help, options["heads"].help, KINDS["head"][1]):
        assert re.search(rf"\b{name}\b", text), text
