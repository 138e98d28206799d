"""Checkpoints: whole or not at all, never unpickled, deleted when they are old; and signals wait for the step."""

from __future__ import annotations

import os
import pickle
import signal
import threading

import pytest
import torch

from headstart.core.errors import CacheError
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
    return checkpoint.run_folder({"seed": 1})


def test_equal_runs_have_one_folder_and_others_another(fresh_cache) -> None:
    first = checkpoint.run_folder({"seed": 1, "settings": {"epochs": 3, "batch_size": 4}})
    assert first == checkpoint.run_folder({"settings": {"batch_size": 4, "epochs": 3}, "seed": 1})
    assert first != checkpoint.run_folder({"seed": 2, "settings": {"epochs": 3, "batch_size": 4}})
    assert fresh_cache in first.parents


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
    other = checkpoint.run_folder({"seed": 2})
    other.mkdir(parents=True)
    (other / checkpoint.FILE).write_bytes((folder / checkpoint.FILE).read_bytes())
    with pytest.raises(CacheError, match="is not one of this run"):
        checkpoint.load(other)
    torch.save({"format": 0, "run_folder": folder.name}, folder / checkpoint.FILE)
    with pytest.raises(CacheError, match="is not one of this run"):
        checkpoint.load(folder)


def test_a_run_that_is_complete_and_old_ones_leave_nothing_behind(folder) -> None:
    other = checkpoint.run_folder({"seed": 2})
    for each in (folder, other):
        checkpoint.save(each, STATE)
    for path in (other, *other.iterdir()):
        os.utime(path, (0, 0))
    checkpoint.discard_old(days=30)
    assert folder.exists()
    assert not other.exists()
    checkpoint.discard(folder)
    checkpoint.discard(folder)  # twice is no error
    checkpoint.discard(None)
    assert not folder.exists()


def test_an_old_checkpoint_that_is_about_to_be_resumed_is_kept(folder) -> None:
    checkpoint.save(folder, STATE)
    for path in (folder, *folder.iterdir()):
        os.utime(path, (0, 0))
    checkpoint.discard_old(days=30, keep=folder)
    assert checkpoint.exists(folder)


def test_how_far_a_run_came_is_read_of_its_checkpoint_and_nothing_of_a_damaged_one(folder) -> None:
    assert checkpoint.reached(folder) == (0, 0)
    checkpoint.save(folder, {**STATE, "run": {"epoch": 3, "step_in_epoch": 7}})
    assert checkpoint.reached(folder) == (3, 7)
    damage_half(folder / checkpoint.FILE)
    assert checkpoint.reached(folder) == (0, 0)


def test_the_precision_of_a_run_is_read_of_its_checkpoint_and_nothing_of_a_damaged_one(folder) -> None:
    assert (checkpoint.precision_of(folder), checkpoint.written(folder)) == (None, 0)
    for known in ("bfloat16", "float32"):
        checkpoint.save(folder, {"precision": known})
        assert checkpoint.precision_of(folder) == known
    assert checkpoint.written(folder) > 0
    damage_half(folder / checkpoint.FILE)
    assert checkpoint.precision_of(folder) is None


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
