"""kill -9 at random moments, in extraction and in training; what is resumed ends in the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FIT = """
import json, sys
from contextlib import contextmanager

import torch

torch.set_num_threads(2)
from headstart import ImageClassifier
from headstart.core.progress import Progress
from headstart.learn.methods import choice

choice.is_better = lambda new, old: True  # the fine-tuned weights are to be compared, however good they are

class Printed(Progress):
    @contextmanager
    def _shown(self, name, total, unit):
        if name != "train":
            print("step", name, flush=True)
        epochs = set()

        def update(done, words=""):
            epoch = words.split("/")[0]
            if name == "train" and epoch not in epochs:
                epochs.add(epoch)
                print("step train", flush=True)

        yield update

data, out, resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"
# What is compared has a cache of its own each, and on a busy machine a trial in each may find another precision faster.
training = dict(epochs=6, batch_size=4, unfreeze="blocks.5", mixup=0.3, cutmix=1.0, ema=0.9, schedule="plateau",
                checkpoint_seconds=0.0, precision="float32")
classifier = ImageClassifier(method="finetune", image_size=64, head="mlp", epochs=5, views=3, augmentation="standard",
                             training=training)
progress = Printed()
try:
    classifier.fit(data, out=out, resume=resume, progress=progress)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
print(json.dumps(progress.notes))
"""


def start(data: Path, out: Path, cache: Path, resume: bool) -> subprocess.Popen[str]:
    """Begin a fit in a process of its own; it prints each step as it begins, and `train` after an epoch's first."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FIT, str(data), str(out), "resume" if resume else "anew"],
        env={**os.environ, "HEADSTART_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def wait_for(process: subprocess.Popen[str], step: str, times: int = 1) -> None:
    """Wait until the process has begun the named step so many times."""
    assert process.stdout is not None
    for line in process.stdout:
        times -= line.strip() == f"step {step}"
        if times == 0:
            return
    pytest.fail(f"it ended before step {step}: {process.communicate()[1]}")


@pytest.fixture
def data(class_folders) -> Path:
    return class_folders(per_class=20)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_the_weights_are_the_same_bytes(data, tmp_path) -> None:
    finish(start(data, tmp_path / "whole", tmp_path / "cache-a", resume=False))
    moments = np.random.default_rng()
    seed = int(moments.integers(1 << 30))
    moments = np.random.default_rng(seed)
    plan = [("extract", 1), ("extract", 2), ("train", 1), ("train", 1), ("train", 2)]
    for number, (step, times) in enumerate(plan):
        process = start(data, tmp_path / "killed", tmp_path / "cache-b", resume=number > 0)
        try:
            wait_for(process, step, times)
            time.sleep(float(moments.uniform(0, 0.4)))
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was too fast to be killed (seed {seed})"
        assert not (tmp_path / "killed").exists()
    assert list((tmp_path / "cache-b" / "runs").glob("*/checkpoint.pt")), f"seed {seed}"
    said = finish(start(data, tmp_path / "killed", tmp_path / "cache-b", resume=True))
    assert "Resumed in epoch" in said
    assert "the fine-tuned backbone of epoch " in said
    for name in ("weights.safetensors", "model.onnx"):
        whole, killed = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "killed"))
        assert whole == killed, f"{name} differs (seed {seed})"
    assert not list((tmp_path / "cache-b" / "runs").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_exits_as_interrupted_and_resumes(number, data, tmp_path) -> None:
    process = start(data, tmp_path / "model", tmp_path / "cache", resume=False)
    try:
        wait_for(process, "train", 2)
        process.send_signal(number)
        out, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in out
    assert not (tmp_path / "model").exists()
    assert list((tmp_path / "cache" / "runs").glob("*/checkpoint.pt"))
    assert "Resumed in epoch" in finish(start(data, tmp_path / "model", tmp_path / "cache", resume=True))
