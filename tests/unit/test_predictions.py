"""The table of predictions: columns that stand below one another, and what is said of doubtful pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_model

from headstart.cli.predictions import write
from headstart.core.answers import Thresholds
from headstart.core.artifact import load
from headstart.core.predictor import Prediction, Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load(write_model(tmp_path_factory.mktemp("model") / "model", classes=("ant", "bee", "wasp")))


def _table(
    capsys: pytest.CaptureFixture[str], predictor: Predictor, *predictions: Prediction, top: int = 1
) -> list[str]:
    assert write(predictions, predictor, top, None) == 0
    return capsys.readouterr().out.splitlines()


def _said(name: str, *probabilities: float, novelty: float | None = None) -> Prediction:
    return Prediction(name, np.array(probabilities, np.float32), novelty=novelty)


def test_columns_stand_below_one_another_also_where_letters_are_wide(capsys, predictor: Predictor) -> None:
    from rich.cells import cell_len

    predictor.thresholds = Thresholds()
    lines = _table(capsys, predictor, _said("a.jpg", 0.9, 0.06, 0.04), _said("蟻と蜂.jpg", 0.2, 0.7, 0.1), top=2)
    assert [line.split() for line in lines[1:]] == [
        ["a.jpg", "ant", "0.900"],
        ["bee", "0.060"],
        ["蟻と蜂.jpg", "bee", "0.700"],
        ["ant", "0.200"],
    ]
    assert len({cell_len(line) for line in lines}) == 1


def test_unknown_stands_in_the_place_of_the_class_and_a_set_beside_it(capsys, predictor: Predictor) -> None:
    predictor.thresholds = Thresholds(set_probability=0.3, novelty=0.5)
    doubtful, strange, sure = _table(
        capsys,
        predictor,
        _said("doubtful", 0.5, 0.4, 0.1, novelty=0.1),
        _said("strange", 0.9, 0.1, 0.0, novelty=0.6),
        _said("sure", 0.9, 0.1, 0.0, novelty=0.1),
    )[1:]
    assert doubtful.split() == ["doubtful", "ant", "0.500", "could", "be", "ant", "or", "bee"]
    assert strange.split() == ["strange", "unknown", "nearest:", "ant", "0.900"]
    assert sure.split() == ["sure", "ant", "0.900"]


def test_of_several_labels_those_given_are_told_and_more_on_demand(capsys, predictor: Predictor) -> None:
    predictor.thresholds = Thresholds(labels=(0.5, 0.5, 0.5))
    pictures = (_said("two", 0.6, 0.1, 0.9), _said("nothing", 0.4, 0.1, 0.2))
    assert [line.split() for line in _table(capsys, predictor, *pictures)] == [
        ["picture", "labels", "probability"],
        ["two", "wasp", "0.900"],
        ["ant", "0.600"],
        ["nothing", "none"],
    ]
    more = [line.split() for line in _table(capsys, predictor, *pictures, top=3)]
    assert more[3] == ["bee", "0.100", "not", "given"]
    assert more[4] == ["nothing", "ant", "0.400", "not", "given"]


def test_a_long_name_after_the_first_pictures_moves_its_own_line_only(capsys, predictor: Predictor) -> None:
    predictor.thresholds = Thresholds()
    many = [_said(f"{number}.jpg", 0.9, 0.1, 0.0) for number in range(70)]
    lines = _table(capsys, predictor, *many, replace(many[0], name="a-much-longer-name.jpg"), many[0])
    assert lines[-2] == "a-much-longer-name.jpg  ant          0.900"
    assert lines[-1] == lines[1]


def test_progress_is_drawn_where_answers_go_to_a_file_and_errors_to_a_terminal(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    import pty

    model = write_model(tmp_path / "model", classes=("a", "b"))
    picture = make_picture(tmp_path / "one.png")
    drawn = {}
    for quiet in ([], ["--quiet"]):
        seen, terminal = pty.openpty()
        command = [sys.executable, "-m", "headstart", "predict", str(model), str(picture), *quiet]
        subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, check=True, timeout=60)
        os.write(terminal, b"end")
        drawn[bool(quiet)] = os.read(seen, 100_000)
        os.close(terminal)
        os.close(seen)
    assert b"predict" in drawn[False]
    assert drawn[True] == b"end"


@pytest.mark.parametrize(("more", "novelty"), [({}, None), ({"novelty": np.float32(0.75)}, 0.75)])
def test_a_prediction_is_what_the_outputs_of_the_network_say(more, novelty) -> None:
    probabilities = np.array([0.25, 0.75], np.float32)
    said = Prediction.of("a.jpg", {"probabilities": probabilities, "features": np.zeros(8, np.float32), **more})
    assert (said.name, said.error, said.novelty) == ("a.jpg", None, novelty)
    assert type(said.novelty) in (float, type(None)), "JSON knows no numbers of numpy"
    assert said.probabilities is probabilities
