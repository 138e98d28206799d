"""What a run of fine-tuning is known again by: a name that changes is a checkpoint that nobody finds any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.core.preprocessing import Preprocessing
from headstart.learn import runs
from headstart.learn.audit import Record
from headstart.learn.augment import Augmentation
from headstart.learn.dataset import Dataset
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune.settings import TrainingSettings, complete
from headstart.learn.finetune.task import Course, Task, identity, network_identity
from headstart.learn.finetune.unfreezing import Phase, Plan
from headstart.learn.heads import LinearHead
from headstart.learn.prepare import Prepared
from headstart.learn.setup import Setup
from headstart.learn.split import Split
from headstart.networks import Backbone
from headstart.networks.weights import Weights

DIGESTS = [f"{number:032x}" for number in range(6)]


def task(**changes: Any) -> Task:
    """A task of six pictures; what does not tell one run from another is left out."""
    parts = (np.array(rows, np.int64) for rows in ([0, 1, 3], [2, 4], [5]))
    prepared = Prepared(
        Dataset(tuple("abcdef"), np.array([0, 0, 0, 1, 1, 1], np.int64), ("ant", "bee")),
        tuple(Record(path, digest, 0, 40, 30, "PNG") for path, digest in zip("abcdef", DIGESTS, strict=True)),
        Split(*parts, {}, (), False, np.arange(6)),
        (),
        False,
    )
    stages = ("stem", "blocks.0", "blocks.1")
    weights = Weights("sha256:" + "5" * 64, "a file", "MIT", Path("tiny.safetensors"))
    backbone = Backbone("tiny", nn.Sequential(), stages, Preprocessing((32, 48)), 8, weights, None, "avg")
    settings = complete(TrainingSettings(epochs=3, learning_rate=0.01, ema=0.9, layer_decay=0.8), 3, stages)
    how = FeatureSettings(3, Augmentation(horizontal_flip=0.5), 7, "cpu", "float32")
    layers = Plan("blocks.1", (Phase(0, ("blocks_1.conv",)), Phase(2, ("blocks_1.conv", "blocks_1.bn"))), 3)
    given = {"settings": settings, "seed": 7, **changes}
    setup = Setup(prepared, backbone, LinearHead(C=2.0), replace(how, views=2), "balanced", given["seed"])
    return Task(setup, None, Course(layers, given["settings"], how, torch.device("cpu"), pixels=False))


@pytest.fixture(autouse=True)
def one_version_of_torch(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.14.1")


def test_a_run_has_the_folder_that_it_had_in_earlier_versions(fresh_cache: Path) -> None:
    """It may change only where a version that is part of it is raised, as what is computed has changed."""
    assert runs.folder_of(identity(task())) == fresh_cache / "runs" / "2ace35e0f06eb8b024ae5983"


def test_a_trial_of_precision_has_the_name_that_it_had_in_earlier_versions() -> None:
    assert runs.name_of({**network_identity(task()), "batch": (3, 8, 4, 4)}) == "73fee5ba5006c31bdbb1b0f4"


def test_how_often_a_checkpoint_is_written_tells_no_run_from_another_and_a_seed_does() -> None:
    often = replace(task().course.settings, checkpoint_seconds=1.0)
    names = [runs.folder_of(identity(one)).name for one in (task(), task(settings=often), task(seed=8))]
    assert names[0] == names[1] != names[2]
