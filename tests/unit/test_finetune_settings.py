"""Settings of fine-tuning: impossible ones are named, missing ones follow from the size of the data."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

import numpy as np
import pytest

from headstart.core.errors import SettingError
from headstart.learn import other_names
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune.settings import TrainingSettings, complete, make_settings
from headstart.learn.finetune.task import make_course
from headstart.networks import load_backbone

NINE = tuple(f"stage{number}" for number in range(9))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs is 0: give a whole number from 1"),
        ({"epochs": 2.5}, "epochs is 2.5: give a whole number"),
        ({"epochs": "ten"}, "epochs is 'ten': give a whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"batch_size": None}, "batch_size is None"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: give a number from 0 to 100"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"optimizer": "lion"}, "optimizer is 'lion': choose one of adamw, adam, sgd"),
        ({"schedule": "wave", "clip_norm": -1}, "schedule is 'wave'.*clip_norm is -1"),
        ({"lerning_rate": 1}, "unknown training setting 'lerning_rate': did you mean 'learning_rate'"),
        ({"lr0": 0.01}, "training setting lr0 is called learning_rate here: write learning_rate"),
        ({"wd": 0.01}, "wd is called weight_decay here"),
        ({"gamma": 0.1}, "gamma is called step_factor here"),
        ({"step_size": 7}, "step_size is called step_epochs here"),
        ({"warmup_epochs": 3}, "warmup_epochs is called warmup here, a share of all steps"),
        ({"colour": 1}, "unknown training setting 'colour': `headstart fit --help` lists all"),
        ({"unfreeze": [("layer4", 3)], "epochs": 5}, "epochs is 5, but unfreeze is a list"),
    ],
)
def test_an_impossible_setting_is_named_with_what_is_possible(values, message) -> None:
    with pytest.raises(SettingError, match=message):
        make_settings(values)


def test_every_name_of_another_library_leads_to_a_setting_or_tells_what_to_do() -> None:
    known = {field.name for field in fields(TrainingSettings)}
    assert {told for told in other_names.TRAINING.values() if " " not in told} <= known
    for name, told in other_names.TRAINING.items():
        with pytest.raises(SettingError, match=f"^training setting {name} ") as caught:
            make_settings({name: 1})
        assert told in str(caught.value)


def test_whole_numbers_may_come_as_floats_from_a_command_line() -> None:
    settings = make_settings({"epochs": 10.0, "patience": 3.0, "momentum": 0.5})
    assert (settings.epochs, settings.patience, settings.momentum) == (10, 3, 0.5)
    assert isinstance(settings.epochs, int)


def test_numbers_of_numpy_are_numbers_and_become_those_of_python() -> None:
    values = {"batch_size": np.int64(8), "learning_rate": np.float32(0.5), "patience": np.float64(3), "ema": np.int8(0)}
    settings = make_settings({**values, "unfreeze": [("head", np.int64(2)), (np.int32(12), 5)]})
    assert settings == make_settings(
        {"batch_size": 8, "learning_rate": 0.5, "patience": 3, "ema": 0, "unfreeze": [("head", 2), (12, 5)]}
    )
    json.dumps(asdict(settings))  # as a run is named and a model described
    assert json.dumps(make_settings({"unfreeze": np.int64(2)}).unfreeze) == "2"
    with pytest.raises(SettingError, match="batch_size is .*True"):
        make_settings({"batch_size": np.True_})


def test_settings_that_are_settings_already_stay_as_they_are() -> None:
    settings = TrainingSettings(epochs=3)
    assert make_settings(settings) is settings
    assert make_settings(None) == TrainingSettings()


@pytest.mark.parametrize(
    ("pictures", "epochs", "learning"), [(20, 15, 3), (499, 15, 3), (500, 10, 5), (5_000, 10, 5), (5_001, 5, 5)]
)
def test_more_pictures_unfreeze_more_for_fewer_epochs(pictures: int, epochs: int, learning: int) -> None:
    settings = complete(TrainingSettings(), pictures, NINE)
    assert settings.epochs == epochs
    assert settings.unfreeze == NINE[-learning]


@pytest.mark.parametrize(("stages", "small", "large"), [(1, 1, 1), (2, 1, 1), (5, 2, 3), (14, 5, 7)])
def test_shares_are_rounded_to_whole_stages(stages: int, small: int, large: int) -> None:
    names = NINE * 2
    for pictures, learning in ((100, small), (1_000, large)):
        assert complete(TrainingSettings(), pictures, names[:stages]).unfreeze == names[:stages][-learning]


def test_what_the_user_said_is_kept_and_sgd_has_its_own_rates() -> None:
    settings = complete(TrainingSettings(unfreeze="all", epochs=3, learning_rate=0.5, optimizer="sgd"), 100, NINE)
    assert (settings.unfreeze, settings.epochs, settings.learning_rate) == ("all", 3, 0.5)
    assert settings.backbone_learning_rate == 0.15  # three tenths of the head's, as without it
    assert complete(TrainingSettings(), 100, NINE).backbone_learning_rate == 3e-4


@pytest.mark.parametrize(
    ("unfreeze", "given", "decay"),
    [("blocks.3", None, 1.0), ("blocks.2", None, 0.8), ("all", None, 0.8), (2, None, 1.0), ("all", 0.5, 0.5)],
)
def test_the_rates_fall_by_stage_where_more_than_five_learn_or_as_the_user_said(unfreeze, given, decay: float) -> None:
    backbone = load_backbone("efficientnet_lite0", blank=True)
    training = TrainingSettings(unfreeze=unfreeze, layer_decay=given)
    assert make_course(backbone, training, FeatureSettings(device="cpu"), 100).settings.layer_decay == decay
