"""The models that are served: their names, and picking up new ones."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from serving import serving
from tiny_models import CLASSES, write_model
from waiting import until

from headstart.core import artifact
from headstart.core.errors import ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.core.replacing import new_folder
from headstart.use.exporters import exporter
from headstart.use.exporters.contract import How
from headstart.use.serve.models import Models


def test_a_new_model_that_fails_in_an_unforeseen_way_is_refused_and_the_next_one_is_picked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.use.serve.app.RELOAD_SECONDS", 0.01)
    folder = write_model(tmp_path / "birds")
    genuine = artifact.load
    failures = iter([ZeroDivisionError("nobody thought of this")])

    def load(*arguments: Any, **options: Any) -> Predictor:
        for failure in failures:
            raise failure
        return genuine(*arguments, **options)

    def comes(outcome: str) -> bool:
        for _ in range(1000):
            if f'outcome="{outcome}"}} 1.0' in client.get("/metrics").text:
                return True
            time.sleep(0.01)
        return False

    with serving(folder, reload=True) as client:
        monkeypatch.setattr(artifact, "load", load)
        os.utime(folder / "model.json", ns=(1, 1))
        assert comes("refused")
        os.utime(folder / "model.json", ns=(2, 2))
        assert comes("picked up")


@pytest.mark.parametrize("form", ["onnx", "openvino", "bundle"])
def test_a_new_export_is_seen_and_picked_up_and_a_half_written_one_is_not(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "birds"

    def export(classes: tuple[str, ...], seed: int) -> None:
        predictor = artifact.load(write_model(tmp_path / f"model-{seed}", classes=classes, seed=seed))
        with new_folder(folder) as made:
            exporter(form).export(predictor, made, How())

    export(CLASSES, 0)
    models = Models([str(folder)])
    assert models.changed() == []
    export(("crow", "wren"), 1)
    (old,) = models.changed()
    assert models.reload(old).predictor.classes == ("crow", "wren")
    assert models.changed() == []
    assert models.get("birds") is not old
    if sys.platform == "linux":  # whoever writes over a file that is mapped ends the process
        assert str(folder) not in Path("/proc/self/maps").read_text()
    for weights in folder.rglob("model.bin"):
        weights.write_bytes(weights.read_bytes()[:-1])
        (old,) = models.changed()
        with pytest.raises(ModelError, match="Export the model again"):
            models.reload(old)
    shutil.rmtree(folder)
    assert models.changed() == []


def test_two_models_of_one_name_and_a_folder_without_a_model_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="called 'insects'"):
        Models([str(model), str(model)])
    assert [one.name for one in Models([str(model), f"more={model}"])] == ["insects", "more"]
    with pytest.raises(ModelError, match="no model folder"):
        Models([str(tmp_path)])


def test_a_folder_that_cannot_be_looked_at_once_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headstart.use.serve.app.RELOAD_SECONDS", 0.01)
    folder = write_model(tmp_path / "birds")
    genuine = Models.changed
    failures = iter([OSError(errno.ESTALE, "Stale file handle")])

    def changed(self: Models) -> Any:
        for failure in failures:
            raise failure
        return genuine(self)

    monkeypatch.setattr(Models, "changed", changed)
    with serving(folder, reload=True) as client:
        until(lambda: next(failures, None) is None)
        os.utime(folder / "model.json", ns=(1, 1))
        until(lambda: 'outcome="picked up"} 1.0' in client.get("/metrics").text)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["event"] for one in events] == ["models not looked at", "model picked up"]
    assert "Stale file handle" in events[0]["reason"]
