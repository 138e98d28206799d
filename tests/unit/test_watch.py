"""Watching a folder: every picture once, whatever ends the process, and never one that is still being written."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from odd_pictures import encoded, gradient
from PIL import Image
from tiny_models import CLASSES, write_model
from waiting import until

from headstart.cli.predict import command
from headstart.core import artifact
from headstart.core.errors import SettingError
from headstart.use import watch as module
from headstart.use.watch import COLUMNS, Records, State, watch

PICTURE = encoded(Image.fromarray(gradient()), "JPEG")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "insects")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("POLL", 0.02), ("SETTLED", 0.1), ("PATIENCE", 0.6)):
        monkeypatch.setattr(module, name, seconds)


@contextmanager
def watching(model: Path, folder: Path, out: Path) -> Iterator[None]:
    stop, failures = threading.Event(), []

    def run() -> None:
        try:
            watch(artifact.load(model), folder, out, stop=stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert failures == []


def lines(out: Path) -> list[dict]:
    if not out.exists():
        return []
    text = out.read_text()
    if out.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_what_is_there_and_what_comes_is_labelled_once_as_predict_does(model: Path, tmp_path: Path, name: str) -> None:
    folder, out = tmp_path / "pictures", tmp_path / name
    (folder / "deep").mkdir(parents=True)
    strange = 'a "quoted", Käse\n\x07.jpg'
    (folder / strange).write_bytes(PICTURE)
    with watching(model, folder, out):
        until(lambda: len(lines(out)) == 1)
        (folder / "deep" / "b.jpg").write_bytes(PICTURE)
        (folder / "notes.txt").write_text("no picture")
        (folder / "broken.png").write_bytes(b"broken")
        until(lambda: len(lines(out)) == 3)
    with watching(model, folder, out):  # a restart finds nothing to do
        (folder / "c.jpg").write_bytes(PICTURE)
        until(lambda: len(lines(out)) == 4)
    found = lines(out)
    label = artifact.load(model).predict(PICTURE)[0]
    assert [Path(line["path"]).name for line in found] == [
        'a "quoted", Käse\\n\\x07.jpg',
        "b.jpg",
        "broken.png",
        "c.jpg",
    ]
    assert [line.get("label") or None for line in found] == [label, label, None, label]
    assert "not a picture" in found[2]["error"]


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_another_spelling_of_the_folder_labels_nothing_twice(
    model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / name
    (folder / "deep").mkdir(parents=True)
    for place in (folder, folder / "deep"):
        (place / "a.jpg").write_bytes(PICTURE)
        os.utime(place / "a.jpg", (1, 1))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    with watching(model, Path("pictures"), out):
        until(lambda: len(lines(out)) == 2)
    for count, spelling in enumerate((folder, Path("deep/..//"), tmp_path / "link", Path("../pictures")), 3):
        monkeypatch.chdir(folder)
        with watching(model, spelling, out):
            (folder / f"{count}.jpg").write_bytes(PICTURE)
            until(lambda count=count: len(lines(out)) >= count)
        assert len(lines(out)) == count
    assert {line["path"] for line in lines(out)} >= {str(folder / "a.jpg"), str(folder / "deep" / "a.jpg")}


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_file_of_an_older_version_which_has_the_folder_as_it_was_typed_is_understood(
    model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / name
    folder.mkdir()
    (folder / "a.jpg").write_bytes(PICTURE)
    os.utime(folder / "a.jpg", (1, 1))
    stamp = "1970-01-01T00:00:01.000000000Z"
    told = {"path": "pictures/a.jpg", "label": "ant", "bytes": len(PICTURE), "modified": stamp}
    table = ",".join(COLUMNS) + f"\npictures/a.jpg,ant,1,,,,,{len(PICTURE)},{stamp}\n"
    out.write_text(table if name == "labels.csv" else json.dumps(told) + "\n")
    monkeypatch.chdir(tmp_path)
    with watching(model, folder, out):
        (folder / "b.jpg").write_bytes(PICTURE)
        until(lambda: len(lines(out)) >= 2)
    assert [Path(line["path"]).name for line in lines(out)] == ["a.jpg", "b.jpg"]


def test_a_table_of_several_labels_has_them_and_a_column_for_each_class(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "labels.csv"
    model = write_model(tmp_path / "model", classes=("path", "bee", 'wasp, "big"'), seed=3)
    description = json.loads((model / "model.json").read_text())
    description |= {"output": "multilabel", "confidence": {"labels": {"thresholds": {"path": 0, "bee": 0}}}}
    (model / "model.json").write_text(json.dumps(description))
    folder.mkdir()
    (folder / "a.jpg").write_bytes(PICTURE)
    (folder / "broken.png").write_bytes(b"broken")
    with watching(model, folder, out):
        until(lambda: out.exists() and out.read_text().count("\n") == 3)
    with watching(model, folder, out):  # a restart finds nothing to do
        (folder / "b.jpg").write_bytes(PICTURE)
        until(lambda: out.read_text().count("\n") == 4)
    heading, *rows = csv.reader(out.read_text().splitlines())
    last = ["unknown", "novelty", "error", "bytes", "modified"]
    assert heading == ["path", "labels", "path", "bee", 'wasp, "big"', *last]
    predictor = artifact.load(model)
    (expected,) = (predictor.answer(one) for one in predictor.stream([PICTURE]))
    shares = [f"{expected.probabilities[name]:.6f}" for name in predictor.classes]
    named = {Path(row[0]).name: row for row in rows}
    assert len(expected.labels) >= 2
    assert named["a.jpg"][1:5] == named["b.jpg"][1:5] == [";".join(expected.labels), *shares]
    assert named["broken.png"][1:5] == ["", "", "", ""]
    assert "not a picture" in named["broken.png"][7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--out", "labels.csv"], "--json and --out labels.csv do not go together"),
        (["--csv", "--out", "labels.jsonl"], "--csv and --out labels.jsonl do not go together"),
        (["--top", "3", "--out", "labels.csv"], "--top is for what is printed"),
        ([], "--watch takes one FOLDER and --out FILE"),
    ],
)
def test_options_that_a_watch_would_not_obey_are_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["model", ".", "--watch", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_replaced_is_a_new_picture_and_one_that_goes_is_none(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "labels.jsonl"
    folder.mkdir()
    (folder / "camera.jpg").write_bytes(PICTURE)
    with watching(model, folder, out):
        until(lambda: len(lines(out)) == 1)
        (folder / "camera.jpg").write_bytes(encoded(Image.new("RGB", (50, 50), "red"), "JPEG"))
        until(lambda: len(lines(out)) == 2)
        (folder / "camera.jpg").unlink()
        (folder / "last.jpg").write_bytes(PICTURE)
        until(lambda: len(lines(out)) == 3)
    assert lines(out)[0]["bytes"] != lines(out)[1]["bytes"]


def test_a_file_that_is_still_being_written_is_waited_for(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "labels.jsonl"
    folder.mkdir()
    with watching(model, folder, out), (folder / "slow.jpg").open("wb", buffering=0) as slow:
        for start in range(0, len(PICTURE), 500):
            slow.write(PICTURE[start : start + 500])
            time.sleep(0.15)  # longer than a file has to be still, shorter than a broken one is given
        until(lambda: len(lines(out)) == 1)
    assert lines(out)[0]["label"] in CLASSES


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_line_cut_off_anywhere_is_repaired_and_its_picture_done_again(model: Path, tmp_path: Path, name: str) -> None:
    folder, out = tmp_path / "pictures", tmp_path / name
    folder.mkdir()
    for number in range(3):
        (folder / f'{number},".jpg').write_bytes(PICTURE)
    with watching(model, folder, out):
        until(lambda: len(lines(out)) == 3)
    whole = out.read_bytes()
    for cut in random.Random(0).sample(range(len(whole)), 40):
        out.write_bytes(whole[:cut])
        with Records(out) as records:
            left = out.read_bytes()
            assert whole.startswith(left)
            assert left == b"" or left.endswith(b"\n")
            assert len(records.done) == max(0, left.count(b"\n") - (name == "labels.csv"))
    out.write_bytes(whole[:-7])
    with watching(model, folder, out):
        until(lambda: out.read_bytes() == whole)


def test_other_files_and_files_in_use_are_refused_and_stay_as_they_are(model: Path, tmp_path: Path) -> None:
    predictor, stop = artifact.load(model), threading.Event()
    for name, text in (
        ("a.csv", "path,price\nx,1\n"),
        ("b.jsonl", '{"path": "x"}\n'),
        ("c.jsonl", "[]\n"),
        ("d.csv", "\xff\n"),
    ):
        (tmp_path / name).write_text(text, encoding="latin-1")
        with pytest.raises(SettingError, match="line 1 of .* was not written by --watch"):
            watch(predictor, tmp_path, tmp_path / name, stop=stop)
        assert (tmp_path / name).read_text(encoding="latin-1") == text
    with Records(tmp_path / "used.csv"), pytest.raises(SettingError, match="in use by another watch"):
        Records(tmp_path / "used.csv")
    with pytest.raises(SettingError, match="no folder"):
        watch(predictor, tmp_path / "absent", tmp_path / "e.csv", stop=stop)
    with pytest.raises(SettingError, match="cannot be written"):
        watch(predictor, tmp_path, tmp_path / "absent" / "e.csv", stop=stop)


def test_half_a_line_does_not_stay_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Records(tmp_path / "labels.csv") as records:
        real = records._file

        class Full:
            def write(self, data: bytes) -> int:
                return real.write(data[:10])

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

        monkeypatch.setattr(records, "_file", Full())
        with pytest.raises(OSError, match="disk is full"):
            records.append(State("a.jpg", 1, "then"), {"error": "broken"})
        assert (tmp_path / "labels.csv").read_text() == ",".join(COLUMNS) + "\n"
        assert records.done == set()


@pytest.mark.slow
def test_killed_again_and_again_every_picture_is_labelled_exactly_once(model: Path, tmp_path: Path) -> None:
    folder, out, rng = tmp_path / "pictures", tmp_path / "labels.jsonl", random.Random(0)
    folder.mkdir()
    command = [sys.executable, "-m", "headstart", "predict", str(model), str(folder), "--watch", "--out", str(out)]
    count = 0
    for _ in range(6):
        for _ in range(40):
            (folder / f"{count:04}.jpg").write_bytes(PICTURE)
            os.utime(folder / f"{count:04}.jpg", (1, 1))  # old, so that it need not settle
            count += 1
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = len(lines(out))
        until(lambda before=before: len(lines(out)) > before)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: len(lines(out)) >= count)
    time.sleep(2.5)
    process.send_signal(signal.SIGTERM)
    assert "pictures labelled" in process.communicate(timeout=30)[1]
    assert process.returncode == 0
    paths = [line["path"] for line in lines(out)]
    assert len(paths) == len(set(paths)) == count
    shutil.rmtree(folder)


def test_a_watch_goes_on_when_the_current_directory_is_removed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, current, out = tmp_path / "pictures", tmp_path / "current", tmp_path / "labels.jsonl"
    folder.mkdir()
    current.mkdir()
    monkeypatch.chdir(current)
    (folder / "a.jpg").write_bytes(PICTURE)
    with watching(model, Path("../pictures"), out):
        until(lambda: len(lines(out)) == 1)
        current.rmdir()
        current.mkdir()  # another one, at the same place
        (folder / "b.jpg").write_bytes(PICTURE)
        until(lambda: len(lines(out)) == 2)
    assert [line["path"] for line in lines(out)] == [str(folder / "a.jpg"), str(folder / "b.jpg")]


def test_from_a_current_directory_that_is_gone_a_relative_folder_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SettingError, match="name it whole"):
        watch(artifact.load(model), Path(), tmp_path / "labels.jsonl", stop=threading.Event())


def test_a_folder_that_cannot_be_looked_up_for_a_while_ends_no_watch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out, away = tmp_path / "pictures", tmp_path / "labels.jsonl", []
    folder.mkdir()
    (folder / "a.jpg").write_bytes(PICTURE)
    resolve = Path.resolve

    def fails(path: Path, *arguments: bool) -> Path:
        if path == folder and len(away) < 3:
            away.append(path)
            raise OSError("the drive is away")
        return resolve(path, *arguments)

    monkeypatch.setattr(Path, "resolve", fails)
    with watching(model, folder, out):
        until(lambda: len(lines(out)) == 1)
    assert len(away) == 3
