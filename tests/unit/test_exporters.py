"""Every export format: proved on odd pictures, described inside, refused when it differs, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution, requires
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from click.testing import CliRunner
from exporting import write_pictures
from odd_pictures import odd_pictures
from packaging.requirements import Requirement

import headstart
from headstart import ImageClassifier, load
from headstart.cli.export import command
from headstart.core import artifact, exported
from headstart.core.errors import DataError, ExportError, ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.use.exporters import EXPORTERS, exporter, to_bundle
from headstart.use.exporters.contract import How
from headstart.use.exporters.odd import ordinary_pictures
from headstart.use.exporters.proof import TOLERANCES, Tolerance, prove
from headstart.use.exporters.write import export_model

SOURCE = Path(__file__).resolve().parents[2] / "src" / "headstart"
# dots, stripes, checks: of the generated pictures, with a name that every format's metadata must survive
NAMES = {"dots": "dots", "stripes": 'stripes "é<&>', "checks": "checks"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, make_picture) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), make_picture, NAMES, each=14)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory, make_picture) -> Path:
    return write_pictures(tmp_path_factory.mktemp("unseen"), make_picture, NAMES, each=8, first=500)


@pytest.fixture(scope="module")
def model(tmp_path_factory, pictures) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "model"
    ImageClassifier(method="frozen", image_size=64, seed=0).fit(pictures, finish=None).save(folder)
    return folder


@pytest.fixture
def predictor(model) -> Predictor:
    return load(model)


def skip_where_missing(form: str) -> None:
    if form == "litert" and not (find_spec("litert_torch") and find_spec("ai_edge_litert")):
        pytest.skip("needs litert-torch, which asks for other versions of pydantic and typing-extensions than the rest")


# The contract, format by format


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("form", EXPORTERS)
def test_an_export_says_what_the_original_says_on_every_odd_picture(form, predictor, tmp_path) -> None:
    skip_where_missing(form)
    done = export_model(predictor, tmp_path / "out", form)
    odd = odd_pictures()
    assert (done.proof.ordinary, done.proof.odd) == (24, len(odd))
    assert done.proof.same_label == 24 + len(odd)
    again = exporter(form).load(tmp_path / "out")
    assert again.description["classes"] == list(predictor.classes)
    assert again.description["preprocessing"] == predictor.preprocessing.to_json()
    assert again.description.get("confidence") == predictor.description.get("confidence")
    found = again.probabilities(list(odd.values()))
    assert np.abs(found - predictor.predict_proba(list(odd.values()))).max() < 1e-4
    if form in ("torch", "litert"):  # only their own runtimes read these
        with pytest.raises(ModelError, match=r"exported for (torch|LiteRT).* Name the model folder"):
            load(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["proof"]["largest"] <= record["tolerance"]["probability"] == 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"out", *(["out.zip"] if form == "bundle" else [])}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("form", [form for form in EXPORTERS if form != "bundle"])
def test_every_output_is_exported_for_any_number_of_pictures(form, predictor, tmp_path) -> None:
    skip_where_missing(form)
    export_model(predictor, tmp_path / "out", form)
    made = exporter(form).load(tmp_path / "out")
    images = np.random.default_rng(0).integers(0, 256, (5, *predictor.preprocessing.image_size, 3), np.uint8)
    expected = exporter("onnx")
    whole = onnx.load(predictor.network_file)
    names = {output.name for output in whole.graph.output}
    assert {"probabilities", "features"} <= names
    reference = expected.in_onnxruntime(predictor.network_file)  # type: ignore[attr-defined]
    for count in (1, 5):
        outputs = made.run(images[:count])
        assert set(outputs) == names
        for name, value in reference(images[:count]).items():
            assert outputs[name].shape == value.shape
            assert np.abs(outputs[name] - value).max() < 1e-3 * max(1.0, np.abs(value).max())


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_half_precision_halves_the_size_and_stays_within_its_tolerance(form, predictor, tmp_path) -> None:
    whole = export_model(predictor, tmp_path / "whole", form)
    half = export_model(predictor, tmp_path / "half", form, number="float16")
    assert half.size < 0.6 * whole.size
    assert 0 < half.proof.largest <= TOLERANCES["float16"].probability


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_export_is_used_like_a_model_folder(form, predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "out", form)
    pictures = list(odd_pictures().values())
    file = tmp_path / "out" / {"onnx": "model.onnx", "openvino": "model.xml"}[form]
    for path in (tmp_path / "out", file):
        again = load(path)
        assert again.classes == predictor.classes
        assert np.abs(again.predict_proba(pictures) - predictor.predict_proba(pictures)).max() < 1e-4


# What must not be mismatched


def test_weights_of_another_export_are_refused(predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "out", "openvino")
    weights = tmp_path / "out" / "model.bin"
    changed = bytearray(weights.read_bytes())
    changed[1000] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ModelError, match="does not belong to the .xml"):
        load(tmp_path / "out")


def test_a_network_that_does_not_describe_itself_is_refused(model, tmp_path) -> None:
    shutil.copyfile(model / "model.onnx", tmp_path / "bare.onnx")
    with pytest.raises(ModelError, match="does not describe itself"):
        load(tmp_path / "bare.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "b"]}, "says 2 classes"),
        ({"format_version": 99}, "model format 99"),
        ({"classes": "abc"}, "is damaged"),
        ({"preprocessing": {"image_size": [64, 64], "mean": 3}}, "is damaged"),
        ({"preprocessing": {"image_size": [96, 64]}}, r"pictures of \[96, 64\] pixels"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change, message, predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "out", "onnx")
    whole = onnx.load(tmp_path / "out" / "model.onnx")
    (entry,) = [one for one in whole.metadata_props if one.key == exported.KEY]
    entry.value = json.dumps({**json.loads(entry.value), **change})
    onnx.save(whole, tmp_path / "changed.onnx")
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "changed.onnx")


def test_tensors_and_program_of_two_models_are_refused(predictor, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    export_model(predictor, tmp_path / "out", "torch")
    file = tmp_path / "out" / "weights.safetensors"
    text = exporter("torch").load(tmp_path / "out").description
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = tensors[name] + 1
    save_file(tensors, file, metadata={exported.KEY: json.dumps(text)})
    with pytest.raises(ModelError, match="not of one model"):
        exporter("torch").load(tmp_path / "out")


# The proof


def test_an_export_that_says_something_else_is_refused_with_a_table_and_leaves_nothing(
    predictor, tmp_path, monkeypatch
) -> None:
    module = exporter("onnx")
    right = module.export

    def wrong(predictor: Predictor, folder: Path, how: How) -> None:
        right(predictor, folder, how)
        whole = onnx.load(folder / "model.onnx")
        for tensor in whole.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.1), tensor.name))
        onnx.save(whole, folder / "model.onnx")

    monkeypatch.setattr(module, "export", wrong)
    with pytest.raises(ExportError, match=r"says something else on \d+ of 47 pictures") as caught:
        export_model(predictor, tmp_path / "out", "onnx")
    lines = str(caught.value).splitlines()
    assert lines[1].split() == ["picture", "original", "export", "largest", "difference"]
    assert len(lines) > 2
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_other_classes_is_refused(predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "out", "onnx")
    made = exporter("onnx").load(tmp_path / "out")
    made.description["classes"] = made.description["classes"][::-1]
    with pytest.raises(ExportError, match="says that classes are"):
        prove(predictor, made, ordinary_pictures(2), {}, Tolerance(1e-4, 1.0))


def test_a_folder_that_is_no_export_is_never_replaced_and_an_export_is(predictor, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="is no export"):
        export_model(predictor, tmp_path / "mine", "onnx")
    export_model(predictor, tmp_path / "out", "onnx")
    export_model(predictor, tmp_path / "out", "openvino")
    assert (tmp_path / "out" / "model.xml").exists()
    assert not (tmp_path / "out" / "model.onnx").exists()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="letter.txt"):
        export_model(predictor, tmp_path / "out", "onnx")


def test_what_a_format_cannot_do_is_said(predictor, tmp_path) -> None:
    with pytest.raises(SettingError, match="torch is written in float32, not in int8"):
        export_model(predictor, tmp_path / "out", "torch", number="int8")
    with pytest.raises(SettingError, match="unknown format 'onxn': did you mean 'onnx'"):
        export_model(predictor, tmp_path / "out", "onxn")
    with pytest.raises(SettingError, match="int8 needs labelled pictures"):
        export_model(predictor, tmp_path / "out", "onnx", number="int8")


def test_a_network_with_other_inputs_and_outputs_than_it_says_is_one_clear_error(predictor, tmp_path) -> None:
    import openvino
    from openvino import opset13

    export_model(predictor, tmp_path / "out", "openvino")
    description = openvino.Core().read_model(tmp_path / "out" / "model.xml").get_rt_info(["headstart"]).astype(str)
    for name, shape in (("probabilities", [-1, -1, -1, 3]), ("other", [-1, 64, 64, 3]), ("probabilities", [4])):
        images = opset13.parameter(shape, np.uint8, name="images")
        model = openvino.Model([opset13.result(opset13.convert(images, "f32"))], [images], "other")
        model.outputs[0].get_tensor().set_names({name})
        about = json.loads(description)
        for _ in range(2):  # the second time with the sha256 of the weights that the first wrote
            model.set_rt_info(json.dumps(about), ["headstart"])
            openvino.save_model(model, tmp_path / "other.xml")
            about["export"]["weights"] = artifact.file_sha256(tmp_path / "other.bin")
        with pytest.raises(ModelError, match="Export the model again"):
            load(tmp_path / "other.xml")


# The bundle


def test_the_copied_code_is_the_original_but_for_the_imports(tmp_path) -> None:
    to_bundle.copy_core(tmp_path / "copy")
    copied = {path.stem for path in (tmp_path / "copy").iterdir()}
    assert {"images", "preprocessing", "predictor", "errors", "runtime", "answers"} <= copied
    for path in (tmp_path / "copy").iterdir():
        ours = path.read_text(encoding="utf-8").splitlines()
        theirs = (SOURCE / "core" / path.name).read_text(encoding="utf-8").splitlines()
        assert len(ours) == len(theirs)
        for mine, original in zip(ours, theirs, strict=True):
            assert mine == original or (mine.replace(to_bundle.PACKAGE, "headstart.core") == original)


def test_the_script_of_a_bundle_is_our_own_but_for_the_imports_and_says_how_it_is_used(predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "bundle", "bundle")
    script = tmp_path / "bundle" / "predict.py"
    source = (SOURCE / "use" / "exporters" / "bundle_predict.py").read_text(encoding="utf-8")
    assert script.read_text(encoding="utf-8") == source.replace("from headstart.core.", "from headstart_core.")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "python predict.py [--json] PICTURE" in done.stderr
    data = odd_pictures()["plain jpeg"]
    said = subprocess.run([sys.executable, script, "-"], input=data, capture_output=True, check=True)
    assert said.stdout.decode().startswith(f"picture 0  {predictor.predict(data)[0]} ")


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """The distributions that pip would install for these."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for line in requires(name) or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    waiting.append(needed.name)
    return found


def test_a_bundle_runs_where_there_is_nothing_but_its_requirements(predictor, model, tmp_path) -> None:
    """In a new virtual environment that has the distributions of requirements.txt, as links, and no others."""
    export_model(predictor, tmp_path / "bundle", "bundle")
    place = tmp_path / "elsewhere"
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(place)
    wanted = [line.partition("==")[0] for line in (place / "bundle" / "requirements.txt").read_text().splitlines()]
    venv.create(tmp_path / "venv", with_pip=False)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    for name in with_requirements(tuple(wanted)):
        there = distribution(name)
        for top in {Path(file).parts[0] for file in there.files or () if ".." not in Path(file).parts}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(there.locate_file(top))))
    python = tmp_path / "venv" / "bin" / "python"
    assert_runs_alone(python, place / "bundle", model, tmp_path)


@pytest.mark.slow
def test_a_bundle_runs_where_pip_installed_its_requirements_and_nothing_else(predictor, model, tmp_path) -> None:
    """In a new virtual environment; skipped where pip reaches no packages, which it says itself."""
    export_model(predictor, tmp_path / "bundle", "bundle")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    requirements = tmp_path / "bundle" / "requirements.txt"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    done = subprocess.run(install, capture_output=True, text=True)
    if "Failed to establish a new connection" in done.stderr or "Temporary failure in name" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    assert_runs_alone(python, tmp_path / "bundle", model, tmp_path)


def assert_runs_alone(python: Path, bundle: Path, model: Path, tmp_path: Path) -> None:
    """A Python without torch and headstart gets from the bundle what headstart says of the odd pictures."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEADSTART"))}
    for absent in ("torch", "headstart", "onnx", "sklearn"):
        done = subprocess.run([python, "-c", f"import {absent}"], env=environment, cwd=bundle, capture_output=True)
        assert b"ModuleNotFoundError" in done.stderr
    files = []
    for name, data in odd_pictures().items():
        files.append(tmp_path / f"{name}.jpg")
        files[-1].write_bytes(data)
    command = [python, bundle / "predict.py", "--json", *files]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    ours = subprocess.run(
        [sys.executable, "-m", "headstart", "predict", model, "--json", *files], capture_output=True, text=True
    )
    assert [one["path"] for one in told] == [str(file) for file in files]
    for mine, theirs in zip(told, map(json.loads, ours.stdout.splitlines()), strict=True):
        assert mine["label"] == theirs["label"]
        assert mine["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)
        assert mine.get("unknown") == theirs.get("unknown")


def test_a_bundle_tells_of_a_picture_that_cannot_be_read(predictor, tmp_path) -> None:
    export_model(predictor, tmp_path / "bundle", "bundle")
    (tmp_path / "no.jpg").write_text("no picture")
    script = tmp_path / "bundle" / "predict.py"
    done = subprocess.run([sys.executable, script, tmp_path / "no.jpg"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "not a picture of a known format" in done.stderr
    strange = tmp_path / "odd\udce9.jpg"
    strange.write_bytes(odd_pictures()["plain jpeg"])
    done = subprocess.run([sys.executable, script, strange], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "odd\\udce9.jpg" in done.stdout
    (tmp_path / "bundle" / "model" / "model.bin").write_bytes(b"damaged")
    done = subprocess.run([sys.executable, script, strange], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


# The command, and the function that it calls


def test_the_command_tells_what_it_proved(model, pictures, tmp_path) -> None:
    arguments = [str(model), "--to", "onnx", "--out", str(tmp_path / "out"), "--data", str(pictures), "--json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["proof"]["ordinary"] == 42
    assert told["proof"]["engine"].startswith("ONNX Runtime")
    assert told["accuracy"] is None
    done = headstart.export(model, "onnx", out=tmp_path / "out", data=pictures)
    assert json.loads(json.dumps(done.to_json())) == told


def test_an_export_stands_beside_its_model_under_the_name_of_its_format_unless_told_otherwise(model, tmp_path) -> None:
    shutil.copytree(model, tmp_path / "insects")
    assert headstart.export(tmp_path / "insects", "openvino").folder == tmp_path / "insects-openvino"
    half = headstart.export(load(tmp_path / "insects"), "onnx", number="float16")
    assert (half.folder, half.number) == (tmp_path / "insects-onnx-fp16", "float16")
    assert load(half.folder).classes == load(model).classes


def test_an_export_is_proved_on_what_a_folder_a_manifest_or_a_dataframe_holds(
    model, pictures, tmp_path, make_picture
) -> None:
    paths = sorted(map(str, pictures.rglob("*.jpg")))[:20]
    table = pd.DataFrame({"path": paths, "label": [Path(path).parent.name for path in paths]})
    table.to_csv(tmp_path / "some.csv", index=False)
    make_picture(tmp_path / "loose" / "no-class.jpg", "dots", (96, 128), 900)
    for data, count in ((pictures, 42), (tmp_path / "some.csv", 20), (table, 20), (tmp_path / "loose", 1)):
        done = headstart.export(model, "onnx", out=tmp_path / "out", data=data)
        assert (done.proof.ordinary, done.generated) == (count, False)


def test_what_cannot_be_exported_in_python_is_one_clear_error(model, pictures, tmp_path) -> None:
    table = pd.DataFrame({"path": sorted(map(str, pictures.rglob("*.jpg")))[:1], "label": ["wasps"]})
    for error, words, form, settings in (
        (SettingError, "did you mean 'onnx'", "onxn", {}),
        (SettingError, "onnx is written in float32 or .*, not in int4", "onnx", {"number": "int4"}),
        (SettingError, "max_loss is 3: give a share from 0 to 1", "onnx", {"max_loss": 3}),
        (SettingError, "int8 needs labelled pictures", "onnx", {"number": "int8"}),
        (DataError, "classes that the model does not know: 'wasps'", "onnx", {"data": table}),
        (DataError, "there is no such folder or file", "onnx", {"data": tmp_path / "absent"}),
    ):
        with pytest.raises(error, match=words):
            headstart.export(model, form, out=tmp_path / "out", **settings)
    with pytest.raises(ModelError, match="no model folder"):
        headstart.export(tmp_path, "onnx")
    assert list(tmp_path.iterdir()) == []
