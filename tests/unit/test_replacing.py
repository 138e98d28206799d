"""What is written aside takes its place whole: killed writers leave nothing for long, live ones lose nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headstart.cli.explain import _save
from headstart.core.errors import ModelError
from headstart.core.replacing import ABANDONED_SECONDS, new_file, new_folder
from headstart.learn.finetune.precision import _remember
from headstart.networks.export import to_onnx

KILLED = """
import os, signal, sys
from pathlib import Path
from headstart.core import replacing
with getattr(replacing, sys.argv[1])(Path(sys.argv[2])):
    os.kill(os.getpid(), signal.SIGKILL)
"""
MANY_TIMES = """
import os, sys
from pathlib import Path
from headstart.core.replacing import new_folder
for time in range(60):
    with new_folder(Path(sys.argv[1])) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(f"{os.getpid()} {time}")
"""


def write(target: Path, text: str) -> None:
    with new_folder(target) as folder:
        (folder / "text").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """Return the text of every file below a folder by its path in it."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", ["new_folder", "new_file"])
def test_what_a_killed_writer_left_goes_with_the_next_writing_to_the_same_target(make: str, tmp_path: Path) -> None:
    target = tmp_path / "model"
    done = subprocess.run([sys.executable, "-c", KILLED, make, str(target)])
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    write(tmp_path / "other", "not its target")
    assert left.exists()
    write(target, "whole")
    assert contents(tmp_path) == {"model/text": "whole", "other/text": "not its target"}
    assert not left.exists()


def test_two_writers_at_once_are_both_written_and_the_later_stands(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with new_folder(target) as first:
        (first / "text").write_text("begun first, done last")
        with new_folder(target) as second:
            (second / "text").write_text("begun last, done first")
        assert contents(target) == {"text": "begun last, done first"}
        assert first.is_dir()
    assert contents(tmp_path) == {"model/text": "begun first, done last"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_writer_that_finishes_between_the_two_renames_of_another_is_replaced(tmp_path: Path, monkeypatch) -> None:
    target, rename = tmp_path / "model", Path.rename
    write(target, "former")

    def interrupted(path: Path, new: Path) -> Path:
        moved = rename(path, new)
        monkeypatch.setattr(Path, "rename", rename)
        write(target, "in between")
        assert new.exists(), "what is set aside belongs to a writer that lives"
        return moved

    with new_folder(target) as folder:
        (folder / "text").write_text("last")
        monkeypatch.setattr(Path, "rename", interrupted)
    assert contents(tmp_path) == {"model/text": "last"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_faster_writer_whose_folder_a_third_has_just_set_aside_is_no_error(tmp_path: Path, monkeypatch) -> None:
    target, rename = tmp_path / "model", Path.rename
    write(target, "former")

    def beaten(path: Path, new: Path) -> Path:
        if path.suffix != ".part":
            return rename(path, new)
        monkeypatch.setattr(Path, "rename", rename)
        assert not target.exists(), "the third writer is between its two renames"
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    with new_folder(target) as folder:
        (folder / "text").write_text("last")
        monkeypatch.setattr(Path, "rename", beaten)
    assert contents(tmp_path) == {"model/text": "last"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_many_processes_at_once_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"
    command = [sys.executable, "-c", MANY_TIMES, str(target)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0], told
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    found = contents(target)
    assert set(found) == {"a", "b"}
    assert found["a"] == found["b"]
    assert found["a"].endswith(" 59")


def test_what_cannot_take_its_place_leaves_what_stood_there(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write(target, "former")
    with pytest.raises(ModelError, match="model cannot be written: No such file"), new_folder(target) as folder:
        shutil.rmtree(folder)
    assert contents(tmp_path) == {"model/text": "former"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_where_nothing_can_be_locked_only_what_is_old_is_taken_for_a_leftover(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    target = tmp_path / "model"
    young, old = tmp_path / ".model.abcd1234.part", tmp_path / ".model.dcba4321.part"
    young.mkdir()
    old.mkdir()
    os.utime(old, times=(0, time.time() - ABANDONED_SECONDS - 60))
    write(target, "whole")
    assert young.exists()
    assert not old.exists()


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle.zip"
    target.write_text("former")
    with pytest.raises(RuntimeError, match="half way"), new_file(target) as file:
        file.write_text("half")
        raise RuntimeError("half way")
    assert contents(tmp_path) == {"bundle.zip": "former"}
    with new_file(target) as file:
        file.write_text("whole")
    assert contents(tmp_path) == {"bundle.zip": "whole"}


def _graph(target: Path) -> None:
    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float().mean(dim=(1, 2))

    to_onnx(Mean(), target, (8, 8), ("features",))


def _overlay(target: Path) -> None:
    _save(SimpleNamespace(overlay=lambda: np.zeros((8, 8, 3), np.uint8)), target)


@pytest.mark.parametrize("write", [_graph, _overlay, lambda target: _remember(target, "float32")])
def test_graphs_overlays_and_what_is_remembered_are_written_so_too(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / ".target.0123abcd.part").touch()  # of a killed writer
    write(tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").stat().st_size


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
def test_others_may_read_what_is_written_as_far_as_the_user_lets_them(umask, folder, file, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "model", "whole")
        with new_file(tmp_path / "page.html") as page:
            page.write_text("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == folder
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == file
