"""Fine-tunings in the cache: listed, counted, cleared on demand, and never while a process runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from headstart.cli import cache
from headstart.learn import runs
from headstart.learn.features import store
from headstart.learn.features.store import Store

ABOUT = {"data": "ants", "backbone": "resnet18", "cut": "layer4", "epochs": 7}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def interrupted(cache: Path, name: str = "one", size: int = 5000) -> Path:
    folder = cache / "runs" / name
    with runs.held(folder, ABOUT):
        (folder / "checkpoint.pt").write_bytes(bytes(size))
    return folder


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(cache.command, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_interrupted_runs_are_listed_and_counted(own_cache: Path) -> None:
    folder = interrupted(own_cache)
    (run,) = runs.list_runs()
    assert (run.folder, run.about, run.alive) == (folder, ABOUT, False)
    assert run.size >= 5000
    told = json.loads(shown("--json"))
    assert told["bytes"] == run.size
    assert told["runs"][0]["backbone"] == "resnet18"
    text = shown()
    assert "resnet18 from layer4, 7 epochs on ants" in text
    assert "interrupted" in text
    assert "--resume" in text


def test_a_run_without_a_description_is_listed_by_its_folder(own_cache: Path) -> None:
    (own_cache / "runs" / "abc").mkdir(parents=True)
    (own_cache / "runs" / "abc" / "checkpoint.pt").write_bytes(b"x")
    assert "abc" in shown()


def test_clear_leaves_runs_but_with_the_flag(own_cache: Path) -> None:
    folder = interrupted(own_cache)
    shown("--clear")
    assert folder.exists()
    shown("--clear", "--runs", "--older-than", "1")
    assert folder.exists()
    assert json.loads(shown("--clear", "--runs", "--json"))["freed"] >= 5000
    assert not folder.exists()
    assert CliRunner().invoke(cache.command, ["--runs"]).exit_code == 2


HOLDER = """
    import sys, time
    from pathlib import Path
    from headstart.learn import runs
    folder = Path(sys.argv[1])
    with runs.held(folder, {}):
        (folder / "checkpoint.pt").write_bytes(b"x" * 100)
        print("held", flush=True)
        time.sleep(600)
"""


def test_a_run_that_is_alive_is_never_cleared_and_one_that_was_killed_is(own_cache: Path) -> None:
    folder = own_cache / "runs" / "alive"
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert "running" in shown("--clear", "--runs")
            assert (folder / "checkpoint.pt").exists()
        finally:
            process.kill()
    shown("--clear", "--runs")
    assert not folder.exists()


def test_a_run_that_ends_before_its_first_checkpoint_leaves_nothing(own_cache: Path) -> None:
    folder = own_cache / "runs" / "none"
    with pytest.raises(ValueError, match="early"), runs.held(folder, ABOUT):
        raise ValueError("early")
    assert not folder.exists()


def test_without_locks_a_run_is_alive_while_it_changes(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "lock", lambda path: None)
    folder = interrupted(own_cache)
    assert runs.list_runs()[0].alive
    for path in (*folder.iterdir(), folder):
        os.utime(path, (1e9, 1e9))
    assert not runs.list_runs()[0].alive


def test_runs_and_graphs_take_their_part_of_the_limit(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "2M")
    with Store("old", {"backbone": "b"}, (1000,)) as opened:
        opened.write([(bytes([number] * 16), np.zeros(1000)) for number in range(100)])
        folder = opened.folder
    os.utime(folder / "about.json", (1e9, 1e9))
    assert store.make_room(500_000, keep=own_cache / "other") == 0
    interrupted(own_cache, size=900_000)
    (own_cache / "graphs").mkdir()
    (own_cache / "graphs" / "network.onnx").write_bytes(os.urandom(500_000))
    assert store.make_room(500_000, keep=own_cache / "other") > 0
    assert not folder.exists()


def test_what_cannot_fit_beside_the_runs_costs_no_other_features_their_place(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "3M")
    with Store("old", {"backbone": "b"}, (1000,)) as opened:
        opened.write([(bytes([number] * 16), np.zeros(1000)) for number in range(100)])
    os.utime(opened.folder / "about.json", (1e9, 1e9))
    left = store.room()
    interrupted(own_cache, size=1_000_000)
    assert left - 1_001_000 < store.room() <= left - 1_000_000
    assert store.make_room(store.room() + 1, keep=own_cache / "other") == 0
    assert opened.folder.exists()
    assert store.make_room(store.room(), keep=own_cache / "other") > 0
    interrupted(own_cache, size=4_000_000)
    assert store.room() == 0


def test_what_trials_of_speed_found_goes_with_the_rest(own_cache: Path) -> None:
    (own_cache / "precision").mkdir(parents=True)
    (own_cache / "precision" / "one.txt").write_text("bfloat16")
    assert "precision" in shown()
    shown("--clear")
    assert not list((own_cache / "precision").glob("*"))


def about(**changes: Any) -> dict[str, Any]:
    preprocessing = {"image_size": [224, 224], "fit": "crop", "crop_fraction": 0.875, "pad_value": 128}
    named = {"backbone": "b", "features": "1280", "precision": "bfloat16", "cut": None, "weights": "sha256:" + "0" * 64}
    seen = {**preprocessing, **{name: value for name, value in changes.items() if name in preprocessing}}
    rest = {name: value for name, value in changes.items() if name not in preprocessing}
    return {**named, "pooling": "avg", "preprocessing": seen, **rest}


def test_rows_that_would_look_alike_are_told_apart() -> None:
    assert cache.differences([]) == {}
    assert cache.differences([about(), about(backbone="c", image_size=[96, 96])]) == {}
    assert cache.differences([about(), about(image_size=[96, 128]), about(backbone="c", pooling="max")]) == {
        "pixels": ["224", "96 x 128", "224"]
    }
    assert cache.differences([about(), about(fit="pad")]) == {"fit": ["crop", "pad"]}
    assert cache.differences([about(), about(weights="sha256:" + "1" * 64)]) == {"weights": ["0" * 8, "1" * 8]}


def test_the_table_has_what_differs(own_cache: Path) -> None:
    for name, size in (("one", 96), ("two", 224)):
        with Store(name, about(image_size=[size, size]), (10,)) as opened:
            opened.write([(bytes(16), np.zeros(10))])
    text = shown()
    assert "pixels" in text
    assert " 96 " in text
    assert " 224 " in text
