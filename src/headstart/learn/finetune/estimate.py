"""How long fine-tuning would take here: a few pictures through the very network, before anything is begun."""

from __future__ import annotations

import copy
import math
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
from headstart.learn.finetune.precision import TRIAL_STEPS, candidates, seconds_of_step
from headstart.learn.finetune.source import LiveSource
from headstart.learn.finetune.task import Course
from headstart.learn.finetune.tensors import as_inputs, own_random_state
from headstart.learn.finetune.unfreezing import apply_phase
from headstart.networks import Backbone, faster, suffix

# So many pictures are tried, or so few where steps with all of them would cost more than their share of the budget.
PICTURES, FEW = 16, 2
REPEATS = 2
# Of the budget, for each thing that is measured; once each is measured whatever it costs.
SHARE = 0.05
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


def seconds_needed(
    backbone: Backbone, head: nn.Module, course: Course, train: Pictures, validation: int, budget: float = math.inf
) -> float:
    """Return about how long the prefix of all views, and the training above it, will take on the device.

    A few of the pictures are decoded, augmented and run through the engine of the prefix as the extraction will do
    it, and a few steps are taken on a copy. What is cached already is not taken into account.

    Args:
        backbone: Is not changed.
        head: Features -> logits; is not changed.
        course: How training goes; measured is a step in which all learns that ever does.
        train: The training pictures.
        validation: How many pictures are validated on after every epoch, and once more by the best.
        budget: Seconds that are there for it: the estimate is the rougher the less it may cost.
    """
    # On a copy, and silently: what the engine has to say is said when it is opened in earnest.
    trial = replace(backbone, network=copy.deepcopy(backbone.network))
    apply_phase(trial, course.layers.everything(), batch_norm=course.settings.batch_norm)
    # No more than a batch: where a trial does not fit into memory, training does not either.
    count = min(PICTURES, len(train), max(FEW, course.settings.batch_size))
    inputs, below = _measure_below(trial, course, train, count, SHARE * budget)
    step, forward = _measure_above(trial, head, course, inputs, SHARE * budget)
    learned, judged = course.epochs * len(train), (course.epochs + 1) * validation
    seen = learned + judged if course.pixels else course.features.views * len(train) + validation
    return seen * below + learned * step + judged * forward


def _measure_below(
    trial: Backbone, course: Course, train: Pictures, count: int, allowed: float
) -> tuple[np.ndarray, float]:
    """Return the inputs of some pictures at the cut, and the seconds that one takes to be made."""
    engine, how = None, course.features
    if not course.pixels:
        engine, _ = open_engine(train.items[:BATCH_SIZE], trial, how, course.layers.cut, Progress())
    source = LiveSource(train, trial, how, engine)
    rows = [part for part in np.array_split(np.arange(count), -(-PICTURES // BATCH_SIZE)) if len(part)]
    inputs, seconds = np.empty(0), list[float]()
    while len(seconds) < REPEATS and sum(seconds) + min(seconds, default=0.0) <= allowed:
        start = time.perf_counter()
        inputs = np.concatenate(list(source.batches(rows, how.views - 1)))
        seconds.append(time.perf_counter() - start)
    return inputs, min(seconds) / len(inputs)


def _measure_above(
    trial: Backbone, head: nn.Module, course: Course, inputs: np.ndarray, allowed: float
) -> tuple[float, float]:
    """Return the seconds that a picture takes in a step, in the faster precision, and in validation."""
    device = course.device
    upper = trial.network if course.pixels else suffix(trial, course.layers.cut)
    network = nn.Sequential(upper, copy.deepcopy(head)).to(device).to(memory_format=torch.channels_last)
    faster.speed_up(network, as_inputs(inputs[:1], device))

    def step(precision: str) -> float:
        few = seconds_of_step(network, inputs[:FEW], device, precision, allowed) / len(inputs[:FEW])
        return seconds_of_step(network, inputs, device, precision) / len(inputs) if affordable(few) else few

    def affordable(picture: float) -> bool:
        return picture * len(inputs) * TRIAL_STEPS <= allowed

    with own_random_state():
        network.train()
        training = min(step(precision) for precision in candidates(course.settings.precision, device))
        shown = inputs if affordable(training) else inputs[:FEW]
        return training, _seconds_of_validation(network.eval(), shown, device)


def _seconds_of_validation(network: nn.Module, inputs: np.ndarray, device: torch.device) -> float:
    """Return the seconds that a picture takes in validation."""
    x, seconds = as_inputs(inputs, device), list[float]()
    for _ in range(REPEATS):
        start = time.perf_counter()
        with torch.no_grad():
            float(network(x).float().sum())  # waits for the device
        seconds.append(time.perf_counter() - start)
    return min(seconds) / len(inputs)
