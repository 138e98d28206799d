"""The learning rate over time, as a factor of its peak."""

from __future__ import annotations

import math

from headstart.learn.finetune.settings import TrainingSettings


def factor(settings: TrainingSettings, step: int, steps: int, steps_per_epoch: int, plateau: float = 1.0) -> float:
    """Return what the peak learning rates are multiplied by at a step.

    Args:
        settings: Names the schedule.
        step: Number of the step, from 0.
        steps: How many steps there are in all.
        steps_per_epoch: How many of them an epoch has.
        plateau: The factor that the plateau schedule has come to.
    """
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    if settings.schedule == "step":
        return float(settings.step_factor ** (step // steps_per_epoch // settings.step_epochs))
    return plateau if settings.schedule == "plateau" else 1.0
