"""Over time: the learning rate, as a factor of its peak, and the decay of averaged weights.

Each phase of a gradual schedule has its own, warm-up and all, as each stage has it in the code that Howard and Ruder
published (2018, arXiv:1801.06146; the paper leaves it open): `train_clas.py` of fastai fits one slanted triangle for
each `freeze_to`, and `fine_tune` of today's fastai one cycle before and one after it unfreezes. With one schedule over
all phases, layers unfrozen later would never learn at their peak, and would begin without a warm-up.
"""

from __future__ import annotations

import math

from headstart.learn.finetune.settings import TrainingSettings


def factor(settings: TrainingSettings, step: int, steps: int, steps_per_epoch: int, plateau: float = 1.0) -> float:
    """Return what the peak learning rates are multiplied by at a step.

    Args:
        settings: Names the schedule.
        step: Number of the step in its phase, from 0.
        steps: How many steps the phase has.
        steps_per_epoch: How many of them an epoch has.
        plateau: The factor that the plateau schedule has come to in the phase.
    """
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    if settings.schedule == "step":
        return float(settings.step_factor ** (step // steps_per_epoch // settings.step_epochs))
    return plateau if settings.schedule == "plateau" else 1.0


def average_decay(ema: float, step: int) -> float:
    """Return the decay of the averaged weights at a step, counted from 0 over all phases.

    It rises to `ema` as that of TensorFlow's `ExponentialMovingAverage` does by `num_updates`. The average begins with
    the frozen weights: with a decay of 0.999 throughout, 93 % of it would still be those after 75 steps.
    """
    return min(ema, (1 + step) / (10 + step))
