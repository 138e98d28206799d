"""How long fine-tuning would take here: a few pictures through the very network, before anything is begun."""

from __future__ import annotations

import copy
import re
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from headstart.core.errors import SettingError
from headstart.core.predictor import BATCH_SIZE
from headstart.core.progress import Progress
from headstart.learn.features.extract import open_engine
from headstart.learn.features.pictures import Pictures
from headstart.learn.finetune.precision import candidates, seconds_of_step
from headstart.learn.finetune.source import LiveSource
from headstart.learn.finetune.task import Course
from headstart.learn.finetune.tensors import as_inputs, own_random_state
from headstart.learn.finetune.unfreezing import apply_phase
from headstart.networks import Backbone, faster, suffix

PICTURES = 16
REPEATS = 2
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_seconds(text: str | float) -> float:
    """Return the seconds that `90`, `90s`, `10m` or `2h` name.

    Raises:
        SettingError: It is no such time.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    if not match:
        raise SettingError(f"budget is {text!r}: give a time such as 90s, 10m or 2h.")
    return float(match[1]) * _UNITS[match[2]]


def seconds_needed(backbone: Backbone, head: nn.Module, course: Course, train: Pictures) -> float:
    """Return about how long the prefix of all views, and the training above it, will take on the device.

    A few of the pictures are decoded, augmented and run through the engine of the prefix as the extraction will do
    it, and a few steps are taken on a copy. What is cached already is not taken into account.

    Args:
        backbone: Is not changed.
        head: Features -> logits; is not changed.
        course: How training goes; measured is a step in which all learns that ever does.
        train: The training pictures.
    """
    # On a copy, and silently: what the engine has to say is said when it is opened in earnest.
    trial = replace(backbone, network=copy.deepcopy(backbone.network))
    how, layers, settings, device = course.features, course.layers, course.settings, course.device
    apply_phase(trial, layers.everything(), batch_norm=settings.batch_norm)
    engine = None
    if not course.pixels:
        engine, _ = open_engine(train.items[:BATCH_SIZE], trial, how, layers.cut, Progress())
    source = LiveSource(train, trial, how, engine)
    # No more than a batch: where a trial does not fit into memory, training does not either.
    pictures = min(PICTURES, len(train), max(2, settings.batch_size))
    rows = np.array_split(np.arange(pictures), -(-PICTURES // BATCH_SIZE))
    rows = [part for part in rows if len(part)]
    once, inputs = float("inf"), np.empty(0)
    for _ in range(REPEATS):
        start = time.perf_counter()
        inputs = np.concatenate(list(source.batches(rows, how.views - 1)))
        once = min(once, time.perf_counter() - start)
    upper = trial.network if course.pixels else suffix(trial, layers.cut)
    network = nn.Sequential(upper, copy.deepcopy(head)).to(device).to(memory_format=torch.channels_last)
    faster.speed_up(network, as_inputs(inputs[:1], device))
    with own_random_state():
        choices = candidates(settings.precision, device)
        training = min(seconds_of_step(network.train(), inputs, device, precision) for precision in choices)
    passes = course.epochs if course.pixels else how.views
    return len(train) / len(inputs) * (passes * once + course.epochs * training)
