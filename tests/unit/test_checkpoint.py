"""Checkpoints: whole or not at all, never unpickled; and signals wait for the step."""

from __future__ import annotations

import os
import pickle
import signal
import threading

import pytest
import torch

from headstart.core.errors import CacheError
from headstart.learn import runs
from headstart.learn.finetune import checkpoint

STATE = {"network": {"weight": torch.arange(4.0)}, "run": {"epoch": 3, "best_loss": float("inf"), "history": [{}]}}


class Dangerous:
    """Unpickling this would write a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def folder(fresh_cache):
    return runs.folder_of({"seed": 1})


def test_what_is_saved_is_what_is_loaded(folder) -> None:
    assert checkpoint.load(folder) is None
    assert not checkpoint.exists(folder)
    checkpoint.save(folder, STATE)
    found = checkpoint.load(folder)
    assert torch.equal(found["network"]["weight"], STATE["network"]["weight"])
    assert found["run"] == STATE["run"]
    assert checkpoint.exists(folder)


def test_a_save_that_fails_leaves_the_old_checkpoint_and_no_other_file(folder, monkeypatch) -> None:
    checkpoint.save(folder, STATE)
    for error in (OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")):

        def fail(state, file, error=error):
            file.write(b"half")
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", fail)
            with pytest.raises(CacheError, match="cannot be written.*Free some space"):
                checkpoint.save(folder, {})
    assert [path.name for path in folder.iterdir()] == [checkpoint.FILE]
    assert checkpoint.load(folder)["run"]["epoch"] == 3


def damage_half(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_empty(path) -> None:
    path.write_bytes(b"")


def damage_text(path) -> None:
    path.write_text("no checkpoint")


@pytest.mark.parametrize("damage", [damage_half, damage_empty, damage_text])
def test_a_damaged_checkpoint_is_refused_with_its_name(folder, damage) -> None:
    checkpoint.save(folder, STATE)
    damage(folder / checkpoint.FILE)
    with pytest.raises(CacheError, match=rf"{checkpoint.FILE} cannot be read .*delete it, or begin anew"):
        checkpoint.load(folder)


def test_a_pickle_is_never_run(folder, tmp_path) -> None:
    folder.mkdir(parents=True)
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        write({"network": Dangerous(tmp_path / "written")}, folder / checkpoint.FILE)
        with pytest.raises(CacheError, match="cannot be read"):
            checkpoint.load(folder)
    assert not (tmp_path / "written").exists()


def test_a_checkpoint_of_another_run_or_format_is_refused(folder) -> None:
    checkpoint.save(folder, STATE)
    other = runs.folder_of({"seed": 2})
    other.mkdir(parents=True)
    (other / checkpoint.FILE).write_bytes((folder / checkpoint.FILE).read_bytes())
    with pytest.raises(CacheError, match="is not one of this run"):
        checkpoint.load(other)
    torch.save({"format": 0, "run_folder": folder.name}, folder / checkpoint.FILE)
    with pytest.raises(CacheError, match="is not one of this run"):
        checkpoint.load(folder)


def test_how_far_a_run_came_is_read_of_its_checkpoint_and_nothing_of_a_damaged_one(folder) -> None:
    run = {"epoch": 3, "step_in_epoch": 7}
    assert (checkpoint.peek(folder), checkpoint.written(folder)) == (None, 0)
    for named, known in (("bfloat16", "bfloat16"), ("float32", "float32"), ("float8", None)):
        checkpoint.save(folder, {**STATE, "run": run, "precision": named})
        assert checkpoint.peek(folder) == checkpoint.Peek(3, 7, known)
    checkpoint.save(folder, {**STATE, "run": run})
    assert checkpoint.peek(folder) == checkpoint.Peek(3, 7, None)
    assert checkpoint.written(folder) > 0
    damage_half(folder / checkpoint.FILE)
    assert checkpoint.peek(folder) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_a_second_one_interrupts(number) -> None:
    before = signal.getsignal(number)
    with checkpoint.stop_between_steps() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nothing_is_asked() -> None:
    found = []

    def run() -> None:
        with checkpoint.stop_between_steps() as should_stop:
            found.append(should_stop())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]
