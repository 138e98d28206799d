"""Fine-tunings in the cache: listed, counted, cleared on demand, and never while a process runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from headstart.cli import cache
from headstart.learn import runs

ABOUT = {"data": "ants", "backbone": "resnet18", "cut": "layer4", "epochs": 7}


def interrupted(cache: Path, name: str = "one", size: int = 5000) -> Path:
    folder = cache / "runs" / name
    with runs.held(folder, ABOUT):
        (folder / "checkpoint.pt").write_bytes(bytes(size))
    return folder


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(cache.command, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_equal_runs_have_one_folder_and_others_another(fresh_cache: Path) -> None:
    first = runs.folder_of({"seed": 1, "settings": {"epochs": 3, "batch_size": 4}})
    assert first == runs.folder_of({"settings": {"batch_size": 4, "epochs": 3}, "seed": 1})
    assert first != runs.folder_of({"seed": 2, "settings": {"epochs": 3, "batch_size": 4}})
    assert first.parent == fresh_cache / "runs"


def test_interrupted_runs_are_listed_and_counted(fresh_cache: Path) -> None:
    folder = interrupted(fresh_cache)
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


def test_a_run_without_a_description_is_listed_by_its_folder(fresh_cache: Path) -> None:
    (fresh_cache / "runs" / "abc").mkdir(parents=True)
    (fresh_cache / "runs" / "abc" / "checkpoint.pt").write_bytes(b"x")
    assert "abc" in shown()


def test_clear_leaves_runs_but_with_the_flag(fresh_cache: Path) -> None:
    folder = interrupted(fresh_cache)
    shown("--clear")
    assert folder.exists()
    shown("--clear", "--runs", "--older-than", "1")
    assert folder.exists()
    assert json.loads(shown("--clear", "--runs", "--json"))["freed"] >= 5000
    assert not folder.exists()
    assert CliRunner().invoke(cache.command, ["--runs"]).exit_code == 2


def test_an_interrupted_run_goes_after_a_month_but_not_one_that_is_about_to_go_on(fresh_cache: Path) -> None:
    old, resumed, recent = (interrupted(fresh_cache, name) for name in ("old", "resumed", "recent"))
    for folder in (old, resumed):
        age(folder)
    os.utime(recent / "checkpoint.pt", (0, 0))  # its folder and its description are new
    runs.discard_old(keep=resumed)
    assert [old.exists(), resumed.exists(), recent.exists()] == [False, True, True]


def test_what_a_run_leaves_is_discarded_once_and_that_there_is_none_is_no_error(fresh_cache: Path) -> None:
    folder = interrupted(fresh_cache)
    runs.discard(folder)
    assert not folder.exists()
    runs.discard(folder)
    runs.discard(None)


def age(folder: Path) -> None:
    """Let a run look as if nobody had continued it for years."""
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))


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


@contextmanager
def alive(folder: Path) -> Iterator[None]:
    """Let another process hold a run, and kill it at the end."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.kill()


def test_a_run_that_is_alive_is_never_cleared_and_one_that_was_killed_is(fresh_cache: Path) -> None:
    folder = fresh_cache / "runs" / "alive"
    with alive(folder):
        assert "running" in shown("--clear", "--runs")
        assert (folder / "checkpoint.pt").exists()
    shown("--clear", "--runs")
    assert not folder.exists()


def test_an_old_run_that_is_alive_is_kept_and_goes_once_it_was_killed(fresh_cache: Path) -> None:
    """A machine that slept for a month, or a checkpoint that cannot be written."""
    folder, other = fresh_cache / "runs" / "alive", fresh_cache / "runs" / "other"
    with alive(folder):
        age(folder)
        runs.discard_old(keep=other)
        assert (folder / "checkpoint.pt").exists()
    runs.discard_old(keep=other)
    assert not folder.exists()


def test_a_run_that_ends_before_its_first_checkpoint_leaves_nothing(fresh_cache: Path) -> None:
    folder = fresh_cache / "runs" / "none"
    with pytest.raises(ValueError, match="early"), runs.held(folder, ABOUT):
        raise ValueError("early")
    assert not folder.exists()


def test_a_second_run_of_the_same_pictures_and_settings_leaves_the_folder_to_the_first(fresh_cache: Path) -> None:
    folder = fresh_cache / "runs" / "shared"
    with runs.held(folder, ABOUT):
        with pytest.raises(ValueError, match="early"), runs.held(folder, {}):
            raise ValueError("early")
        assert folder.is_dir()
        assert [run.alive for run in runs.list_runs()] == [True]
        assert runs.list_runs()[0].about == ABOUT
    assert not folder.exists()


def test_without_locks_a_run_is_alive_while_it_changes(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "lock", lambda path: None)
    folder = interrupted(fresh_cache)
    assert runs.list_runs()[0].alive
    age(folder)
    assert not runs.list_runs()[0].alive
