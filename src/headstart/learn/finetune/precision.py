"""float32 or bfloat16 for training: what a short trial of the very network on this machine finds faster."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart.core import settings
from headstart.core.replacing import new_file
from headstart.core.runtime import has_bfloat16
from headstart.learn.finetune.tensors import as_inputs, own_random_state

TRIAL_STEPS = 3


def choose(wanted: str, network: nn.Module, inputs: np.ndarray, device: torch.device, name: str) -> str:
    """Return `float32` or `bfloat16`.

    What a trial found is remembered in the cache: timings differ from one time to the next, and the same run, begun
    again or resumed, must not come out differently for it.

    Args:
        wanted: `auto`, or one of the two, which is returned as it is.
        network: Inputs -> logits; is not changed.
        inputs: One batch.
        device: Where the network is.
        name: Identifies the network and the kind of its inputs.
    """
    choices = candidates(wanted, device)
    if len(choices) == 1:
        return choices[0]
    path = settings.cache_folder() / "precision" / f"{name}.txt"
    known = path.read_text(encoding="utf-8") if path.is_file() else ""
    if known in choices:
        return known
    with own_random_state():
        trial = copy.deepcopy(network).train()
        seconds = {precision: seconds_of_step(trial, inputs, device, precision) for precision in choices}
    faster = min(seconds, key=lambda precision: seconds[precision])
    _remember(path, faster)
    return faster


def candidates(wanted: str, device: torch.device) -> tuple[str, ...]:
    """Return the precisions among which `choose` has a trial decide; it is only one where nothing is to be decided."""
    if wanted != "auto":
        return (wanted,)
    if device.type == "cuda":  # without emulation: older cards than Ampere know bfloat16, but are slow in it
        return ("bfloat16",) if torch.cuda.is_bf16_supported(including_emulation=False) else ("float32",)
    return ("float32", "bfloat16") if device.type == "cpu" and has_bfloat16() else ("float32",)


def seconds_of_step(
    network: nn.Module, inputs: np.ndarray, device: torch.device, precision: str, allowed: float = math.inf
) -> float:
    """Return the time of the fastest of a few forward and backward passes; gradients add up in the network.

    Args:
        network: Inputs -> logits.
        inputs: One batch.
        device: Where the network is.
        precision: `float32` or `bfloat16`.
        allowed: Seconds that the passes may take; the first is taken whatever it takes.
    """
    x = as_inputs(inputs, device)
    times = list[float]()
    while len(times) < TRIAL_STEPS and sum(times) + min(times, default=0.0) <= allowed:
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = network(x).float().square().mean()
        loss.backward()
        float(loss.detach())  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times)


def _remember(path: Path, precision: str) -> None:
    with new_file(path) as temporary:
        temporary.write_text(precision, encoding="utf-8")
