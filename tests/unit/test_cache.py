"""The cache as a whole: listed, cleared, and kept below its limit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from headstart.cli import cache as command
from headstart.learn import cache
from headstart.learn.features.store import Store


def fill(name: str, about: dict[str, Any], *, used: float | None = None) -> Path:
    """Write a space of 400 KB, last used at a Unix time or just now, and return its folder."""
    with Store(name, about, (1000,)) as opened:
        opened.write([(bytes([number] * 16), np.zeros(1000)) for number in range(100)])
    if used is not None:
        os.utime(opened.folder / "about.json", (used, used))
    return opened.folder


def interrupted(folder: Path, size: int) -> None:
    """Write a checkpoint of so many bytes."""
    (folder / "runs" / "one").mkdir(parents=True, exist_ok=True)
    (folder / "runs" / "one" / "checkpoint.pt").write_bytes(bytes(size))


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(command.command, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_cache_is_listed_and_cleared(fresh_cache: Path) -> None:
    fill("space", {"backbone": "b"})
    (space,) = cache.list_spaces()
    assert (space.about["backbone"], space.entries) == ("b", 100)
    assert cache.clear(older_than_days=1) == 0
    assert cache.clear() >= 400_000
    assert cache.list_spaces() == []


def test_a_space_that_is_damaged_is_not_listed_and_goes_with_the_rest(fresh_cache: Path) -> None:
    (fill("half", {"backbone": "b"}) / "about.json").write_text('{"backbone":')
    (fill("overwritten", {"backbone": "b"}) / "data.mdb").write_bytes(b"no database" * 1000)
    whole = fill("whole", {"backbone": "b"})
    assert [space.folder for space in cache.list_spaces()] == [whole]
    cache.clear()
    assert list((fresh_cache / "features").iterdir()) == []


def test_room_is_made_by_dropping_the_least_recently_used_space(fresh_cache: Path, monkeypatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "1500K")
    for age, name in [(300, "old"), (200, "newer"), (100, "current")]:
        folder = fill(name, {"backbone": name}, used=1_000_000 - age)
    assert cache.make_room(600_000, keep=folder) > 0
    left = [space.about["backbone"] for space in cache.list_spaces()]
    assert "old" not in left
    assert "current" in left


def test_what_earlier_runs_left_in_a_space_goes_where_a_run_would_not_fit_beside_it(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "900K")
    old, own = fill("old", {"backbone": "a"}, used=1e9), fill("own", {"backbone": "b"})
    assert cache.make_room(400_000, keep=own, anew=None) > 0  # of the other space: this one must stay
    assert (old.exists(), own.exists()) == (False, True)
    old = fill("old", {"backbone": "a"}, used=1e9)
    assert cache.make_room(600_000, keep=own, anew=1_000_000) > 0  # it would not fit without it either
    assert (old.exists(), own.exists()) == (False, True)
    fill("other", {"backbone": "a"})
    assert cache.make_room(600_000, keep=own, anew=450_000) > 0
    assert [space.folder.name for space in cache.list_spaces()] == ["other"]


def test_no_space_goes_for_another_where_emptying_the_own_one_is_enough(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "950K")
    fill("old", {"backbone": "a"}, used=1e9)
    own = fill("own", {"backbone": "b"})
    assert cache.make_room(600_000, keep=own, anew=450_000) > 0
    assert [space.folder.name for space in cache.list_spaces()] == ["old"]


HOLDER = """
    import sys, time
    from headstart.learn.features.store import Store
    store = Store("own", {}, (1000,))
    with store:
        pass
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_space_that_some_run_holds_stays_whatever_another_needs(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "900K")
    own = fill("own", {"backbone": "b"})
    command = [sys.executable, "-c", textwrap.dedent(HOLDER)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert cache.make_room(600_000, keep=own, anew=450_000) == 0
        finally:
            process.kill()
    held = Store("own", {"backbone": "b"}, (1000,))
    with held:
        pass
    assert cache.make_room(600_000, keep=own, anew=450_000) == 0
    with held:  # closed, and held none the less
        assert held.missing([bytes([3] * 16)]) == []
    held.let_go()
    assert cache.make_room(600_000, keep=own, anew=450_000) > 0
    assert not own.exists()
    with held:
        assert held.missing([bytes([3] * 16)]) == [0]
    assert cache.make_room(890_000, keep=own, anew=450_000) == 0


def test_a_space_that_another_run_has_held_for_hours_stays(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "900K")
    fill("mine", {"backbone": "b"})
    held = Store("theirs", {"backbone": "a"}, (1000,))
    with held:
        held.write([(bytes([3] * 16), np.zeros(1000, np.float32))])
    os.utime(held.folder / "about.json", (0, 0))
    assert cache.make_room(899_000, keep=fresh_cache / "features" / "mine") == 0
    assert held.folder.exists()
    held.let_go()
    os.utime(held.folder / "about.json", (0, 0))
    assert cache.make_room(899_000, keep=fresh_cache / "features" / "mine") > 0
    assert not held.folder.exists()


def test_without_locks_a_space_that_may_be_read_stays(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "900K")
    own = fill("own", {"backbone": "b"})
    monkeypatch.setattr(cache, "lock", lambda path: None)
    assert cache.make_room(600_000, keep=own, anew=450_000) == 0
    assert own.exists()


def test_runs_and_graphs_take_their_part_of_the_limit(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "2M")
    folder = fill("old", {"backbone": "b"}, used=1e9)
    assert cache.make_room(500_000, keep=fresh_cache / "other") == 0
    interrupted(fresh_cache, size=900_000)
    (fresh_cache / "graphs").mkdir()
    (fresh_cache / "graphs" / "network.onnx").write_bytes(os.urandom(500_000))
    assert cache.make_room(500_000, keep=fresh_cache / "other") > 0
    assert not folder.exists()


def test_what_cannot_fit_beside_the_runs_costs_no_other_features_their_place(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "3M")
    folder = fill("old", {"backbone": "b"}, used=1e9)
    left = cache.room()
    interrupted(fresh_cache, size=1_000_000)
    assert cache.room() == left - 1_000_000
    assert cache.make_room(cache.room() + 1, keep=fresh_cache / "other") == 0
    assert folder.exists()
    assert cache.make_room(cache.room(), keep=fresh_cache / "other") > 0
    interrupted(fresh_cache, size=4_000_000)
    assert cache.room() == 0


def test_what_trials_of_speed_found_goes_with_the_rest(fresh_cache: Path) -> None:
    (fresh_cache / "precision").mkdir(parents=True)
    (fresh_cache / "precision" / "one.txt").write_text("bfloat16")
    assert "precision" in shown()
    shown("--clear")
    assert not list((fresh_cache / "precision").glob("*"))


def about(**changes: Any) -> dict[str, Any]:
    preprocessing = {"image_size": [224, 224], "fit": "crop", "crop_fraction": 0.875, "pad_value": 128}
    named = {"backbone": "b", "features": "1280", "precision": "bfloat16", "cut": None, "weights": "sha256:" + "0" * 64}
    seen = {**preprocessing, **{name: value for name, value in changes.items() if name in preprocessing}}
    rest = {name: value for name, value in changes.items() if name not in preprocessing}
    return {**named, "pooling": "avg", "preprocessing": seen, **rest}


def test_rows_that_would_look_alike_are_told_apart() -> None:
    assert command.differences([]) == {}
    assert command.differences([about(), about(backbone="c", image_size=[96, 96])]) == {}
    assert command.differences([about(), about(image_size=[96, 128]), about(backbone="c", pooling="max")]) == {
        "pixels": ["224", "96 x 128", "224"]
    }
    assert command.differences([about(), about(fit="pad")]) == {"fit": ["crop", "pad"]}
    assert command.differences([about(), about(weights="sha256:" + "1" * 64)]) == {"weights": ["0" * 8, "1" * 8]}


def test_the_table_has_what_differs(fresh_cache: Path) -> None:
    for name, size in (("one", 96), ("two", 224)):
        fill(name, about(image_size=[size, size]))
    text = shown()
    assert "pixels" in text
    assert " 96 " in text
    assert " 224 " in text
