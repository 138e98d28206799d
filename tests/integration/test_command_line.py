"""The command line as a user meets it: in a subprocess, with what it prints and how it ends."""

import csv
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def run(*arguments: object, data: bytes | None = None, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "headstart", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, env={**os.environ, **environment}, timeout=300)


@pytest.fixture(scope="module")
def pictures(make_picture, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "kinds"
    for kind in ("dots", "stripes"):
        for index in range(30):
            make_picture(folder / kind / f"{index:03}.jpg", kind, seed=index)
    return folder


@pytest.fixture(scope="module")
def model(pictures, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model") / "kinds"
    done = run("fit", pictures, "--out", out, "--image-size", 64, "--method", "frozen", "--json")
    assert done.returncode == 0, done.stderr.decode()
    (out.parent / "result.json").write_bytes(done.stdout)
    return out


def test_fit_prints_one_json_object_with_all_that_is_promised(model) -> None:
    result = json.loads((model.parent / "result.json").read_text())
    promised = {"model", "classes", "backbone", "method", "counts", "set_aside", "seconds", "test", "validation"}
    assert promised <= set(result)
    assert result["model"] == str(model)
    for part in ("test", "validation"):
        assert result[part]["n"] > 0
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
            assert set(result[part][name]) == {"value", "low", "high"}
    assert result["seconds"]["extract"] > 0


def test_predict_as_table_json_and_csv(model, pictures) -> None:
    picture = sorted(pictures.rglob("*.jpg"))[0]
    label = picture.parent.name
    header, row = run("predict", model, picture).stdout.decode().splitlines()
    assert header.split() == ["picture", "class", "probability"]
    assert row.startswith(f"{picture}  {label}")
    assert row.index(label, len(str(picture))) == header.index("class")
    (line,) = run("predict", model, picture, "--json").stdout.decode().splitlines()
    answer = json.loads(line)
    assert answer["path"] == str(picture)
    assert answer["label"] == label
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    rows = list(csv.DictReader(io.StringIO(run("predict", model, picture, "--csv", "--top", 2).stdout.decode())))
    assert rows[0]["label_1"] == label
    assert float(rows[0]["probability_1"]) >= float(rows[0]["probability_2"])


def test_predict_takes_folders_globs_and_standard_input(model, pictures) -> None:
    kinds = sorted(path for path in pictures.iterdir())
    count = len(list(kinds[0].iterdir()))
    assert len(run("predict", model, kinds[0]).stdout.splitlines()) == 1 + count
    assert len(run("predict", model, f"{pictures}/*/*0.jpg").stdout.splitlines()) == 1 + len(
        list(pictures.glob("*/*0.jpg"))
    )
    picture = next(kinds[0].iterdir())
    listed = "\n".join(map(str, [picture, picture])).encode()
    assert len(run("predict", model, "-", data=listed).stdout.splitlines()) == 3
    piped = run("predict", model, "-", "--json", data=picture.read_bytes())
    assert json.loads(piped.stdout)["label"] == picture.parent.name


def test_a_broken_picture_is_said_on_standard_error_and_the_others_go_on(model, pictures, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    picture = sorted(pictures.rglob("*.jpg"))[0]
    done = run("predict", model, tmp_path / "broken.jpg", picture, tmp_path / "gone.jpg")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2  # the header, and the picture that can be read
    assert b"broken.jpg: " in done.stderr
    assert b"gone.jpg: there is no such file" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "nowhere"], "nowhere"),
        (["fit", ".", "--backbone", "resnet81"], "resnet18"),
        (["fit", ".", "--head", "linaer"], "linear"),
        (["fit", ".", "--speed", "9"], "--speed"),
        (["predict", "nowhere", "x.jpg"], "no model folder"),
        (["evaluate", "nowhere", "."], "no model folder"),
        (["check", "nowhere"], "nowhere"),
        (["predict", "nowhere"], "no picture given|no model folder"),
    ],
)
def test_errors_say_what_to_do_and_end_with_2(arguments: list[str], words: str, tmp_path, monkeypatch) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 2
    assert re.search(words, done.stderr.decode())
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_a_config_file_uses_the_constructors_names_and_options_win(pictures, tmp_path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'method = "frozen"\nimage_size = 64\nseed = 5\nhead = "prototype"\n[augmentation]\npolicy = "flip"\n'
    )
    done = run("fit", pictures, "--config", config, "--seed", 6, "--out", tmp_path / "model", "--no-report", "--json")
    assert done.returncode == 0, done.stderr.decode()
    parameters = json.loads((tmp_path / "model" / "model.json").read_text())["parameters"]
    assert (parameters["image_size"], parameters["seed"], parameters["head"]) == (64, 6, "prototype")
    config.write_text("sede = 5\n")
    done = run("fit", pictures, "--config", config)
    assert done.returncode == 2
    assert b"'seed'" in done.stderr


def test_evaluate_measures_new_data_and_notices_training_pictures(model, pictures) -> None:
    done = run("evaluate", model, pictures, "--json")
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert result["test"]["accuracy"]["value"] > 0.8
    assert 0 < result["seen_in_training"] < result["test"]["n"]
    assert "precision" in run("evaluate", model, pictures).stdout.decode()


def test_evaluate_refuses_classes_the_model_does_not_know(model, pictures, tmp_path) -> None:
    (tmp_path / "wasps").mkdir()
    (tmp_path / "wasps" / "a.png").write_bytes(next(pictures.rglob("*.jpg")).read_bytes())
    done = run("evaluate", model, tmp_path)
    assert done.returncode == 2
    assert b"'wasps'" in done.stderr


def test_check_tells_everything_and_learns_nothing(pictures, tmp_path) -> None:
    import shutil

    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data" / "dots" / "broken.jpg").write_bytes(b"broken")
    done = run("check", tmp_path / "data", "--json")
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert [aside["path"].endswith("broken.jpg") for aside in result["set_aside"]] == [True]
    assert set(result["classes"]) == {path.name for path in pictures.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_bad_value_in_a_config_names_the_file_and_where_the_values_are_told(pictures, tmp_path) -> None:
    (tmp_path / "run.toml").write_text('seed = "x"\n')
    done = run("fit", pictures, "--config", tmp_path / "run.toml")
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert "run.toml" in line
    assert "headstart fit --help" in line


def test_a_note_is_one_line_where_nobody_wraps_it(pictures, tmp_path) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    for index in range(12):
        (tmp_path / "data" / os.fsdecode(f"caf\xe9 {index}".encode("latin-1"))).mkdir()
    told = run("check", tmp_path / "data", "--quick", COLUMNS="40").stderr.decode().splitlines()
    (line,) = [line for line in told if "UTF-8" in line]
    assert line.startswith("note: ")
    assert line.endswith(".")


def test_a_path_with_a_line_break_stays_one_line(model, pictures, tmp_path) -> None:
    odd = shutil.copy(sorted(pictures.rglob("*.jpg"))[0], tmp_path / "two\nlines.jpg")
    _, row = run("predict", model, odd).stdout.decode().splitlines()
    assert "two\\nlines.jpg" in row


def test_models_and_cache_are_listed_without_torch(model) -> None:
    listed = json.loads(run("models", "--json").stdout)
    usable = {row["entry"]["name"] for row in listed if row["usable"]}
    assert "efficientnet_lite0" in usable
    shown = run("models", COLUMNS="80").stdout.decode()
    assert all(row["entry"]["name"] in shown for row in listed)  # whole, however narrow the window
    cached = json.loads(run("cache", "--json").stdout)
    assert cached["bytes"] > 0
    code = "import sys; from headstart.cli import main\ntry: main(['models'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.split()[-1] == "False"


def test_imagenet_classes_are_named_without_training(catdog) -> None:
    picture = sorted((catdog / "dog").iterdir())[0]
    done = run("predict", "--backbone", "efficientnet_lite0", picture, "--top", 3)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().count(" n0") == 3


def test_kill_9_during_extraction_then_the_same_command_completes_with_the_same_result(catdog, tmp_path) -> None:
    def command(out: str, cache: str) -> tuple[list[str], dict[str, str]]:
        arguments = ["fit", str(catdog), "--out", str(tmp_path / out), "--image-size", "128", "--method", "frozen"]
        arguments += ["--no-report", "--json"]
        return [sys.executable, "-m", "headstart", *arguments], {**os.environ, "HEADSTART_CACHE": str(tmp_path / cache)}

    arguments, environment = command("killed", "cache")
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    features = tmp_path / "cache" / "features"
    deadline = time.monotonic() + 120
    while not _entries(features) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = _entries(features)
    assert survived > 0
    assert not (tmp_path / "killed").exists()
    done = subprocess.run(arguments, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    arguments, environment = command("whole", "other-cache")
    whole = subprocess.run(arguments, env=environment, capture_output=True, timeout=300)
    assert json.loads(done.stdout)["test"] == json.loads(whole.stdout)["test"]
    continued = json.loads((tmp_path / "killed" / "model.json").read_text())["features"]["computed"]
    everything = json.loads((tmp_path / "whole" / "model.json").read_text())["features"]["computed"]
    assert continued == everything - survived


def _entries(features: Path) -> int:
    """Return how many features a cache holds in all its spaces, read as another process would."""
    code = (
        "import sys, lmdb; environment = lmdb.open(sys.argv[1], readonly=True, lock=False);"
        "print(environment.stat()['entries'])"
    )
    found = [
        subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
        for folder in (features.glob("*") if features.exists() else [])
    ]
    return sum(int(done.stdout) for done in found if done.returncode == 0)


@contextmanager
def endless_fit(pictures: Path, tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A fit of more views or epochs than any test waits for, in a process of its own."""
    common = ["--image-size", "64", "--augmentation", "flip", "--out", str(tmp_path / "model")]
    process = subprocess.Popen(
        [sys.executable, "-m", "headstart", "fit", str(pictures), *common, *options],
        env={**os.environ, "HEADSTART_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_leaves_no_half_written_model_and_says_how_to_continue(pictures, tmp_path) -> None:
    with endless_fit(pictures, tmp_path, "--method", "frozen", "--views", "1000") as process:
        while not _entries(tmp_path / "cache" / "features"):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith(" The same command continues from the features cached so far.\n")
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_ctrl_c_between_epochs_ends_like_any_other_and_says_how_to_resume(pictures, tmp_path) -> None:
    options = ("--method", "finetune", "--unfreeze", "conv_head", "--views", "2", "--training", "epochs=100000")
    with endless_fit(pictures, tmp_path, *options) as process:
        started = (" ".join(line.split()).startswith("epoch 2/") for line in process.stderr)
        assert any(started), "it ended before its second epoch"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130  # a crash while the networks of two engines are torn down has another
    assert errors.endswith(" The same command with --resume (resume=True) continues the fine-tuning from here.\n")
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert list((tmp_path / "cache" / "runs").glob("*/checkpoint.pt"))
