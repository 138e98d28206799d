"""The zip beside a bundle: whole or not at all, never over somebody's own, and never without its folder."""

from __future__ import annotations

import shutil
import zipfile

import pytest
from tiny_models import write_model

from headstart import load
from headstart.core.errors import ModelError
from headstart.core.predictor import Predictor
from headstart.use.exporters import to_bundle
from headstart.use.exporters.write import export_model


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load(write_model(tmp_path_factory.mktemp("models") / "insects"))


def test_two_zips_of_one_bundle_at_once_do_not_write_into_one_file(tmp_path, monkeypatch) -> None:
    bundle, target = tmp_path / ".bundle.part", tmp_path / "bundle.zip"
    bundle.mkdir()
    (bundle / "predict.py").write_text("print('hello')")
    copy = shutil.copyfileobj

    def meanwhile(source, sink) -> None:
        """Another process writes the same zip while this one is under way."""
        monkeypatch.setattr(shutil, "copyfileobj", copy)
        to_bundle.write_zip(bundle, target)
        copy(source, sink)

    monkeypatch.setattr(shutil, "copyfileobj", meanwhile)
    to_bundle.write_zip(bundle, target)
    with zipfile.ZipFile(target) as archive:
        assert archive.read("bundle/predict.py") == b"print('hello')"
    assert {path.name for path in tmp_path.iterdir()} == {".bundle.part", "bundle.zip"}


def test_a_zip_that_cannot_be_written_leaves_neither_zip_nor_folder(predictor, tmp_path, monkeypatch) -> None:
    def full(source, sink) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(ModelError, match=r"bundle\.zip cannot be written: No space left"):
        export_model(predictor, tmp_path / "bundle", "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("former", [None, "empty", "onnx"])
def test_a_zip_that_is_not_of_an_earlier_bundle_is_never_replaced(former, predictor, tmp_path) -> None:
    if former == "empty":
        (tmp_path / "out").mkdir()
    elif former is not None:
        export_model(predictor, tmp_path / "out", former)
    (tmp_path / "out.zip").write_bytes(b"holiday pictures")
    with pytest.raises(ModelError, match=r"out\.zip exists and is no earlier bundle's"):
        export_model(predictor, tmp_path / "out", "bundle")
    assert (tmp_path / "out.zip").read_bytes() == b"holiday pictures"


def test_the_zip_of_an_earlier_bundle_is_replaced(predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "out", "bundle")
    whole = (tmp_path / "out.zip").read_bytes()
    (tmp_path / "out.zip").write_bytes(b"cut off")
    export_model(predictor, tmp_path / "out", "bundle")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert "out/predict.py" in archive.namelist()
    assert abs((tmp_path / "out.zip").stat().st_size - len(whole)) < 2000
