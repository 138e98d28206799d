"""A training under way: what is trained on what, where it is, and all that a checkpoint of it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.source import Source
from headstart.learn.finetune.tensors import Tensors

# What every validation is better than.
NOTHING = (-1.0, -math.inf)


@dataclass(frozen=True, eq=False)
class Job:
    """What is trained on what.

    Attributes:
        network: Inputs of the source -> logits; its frozen parts are frozen.
        groups: Optimizer parameter groups: `params` and the peak `lr` of each.
        train, validation: Where inputs come from.
        targets, validation_targets: float32 `(n, c)`: one-hot, or several ones a row.
        loss: `softmax` or `sigmoid` cross-entropy.
        class_weights: float32 `(c,)`, by which pictures weigh in a step; None where all weigh alike.
        start_epoch: Called with the number of each epoch before it, to unfreeze more.
        device: Where the network is; targets and class weights are there too.
        phases: The first epoch of each phase of a gradual schedule, ascending from 0. A phase is a training of its own,
            with a schedule and patience of its own, that goes on from the weights of the one before.
        validation_weights: float64 `(m,)`, what each validation picture counts; None where all count alike.
    """

    network: nn.Module
    groups: list[dict[str, Any]]
    train: Source
    validation: Source
    targets: torch.Tensor
    validation_targets: torch.Tensor
    loss: str
    class_weights: torch.Tensor | None
    start_epoch: Callable[[int], None]
    device: torch.device
    phases: tuple[int, ...] = (0,)
    validation_weights: np.ndarray | None = None


@dataclass
class Run:
    """Where a run is; all of it is in the checkpoint.

    Attributes:
        epoch, step_in_epoch: The next step, from 0.
        loss_sum, right, seen, seconds: Of the epoch so far: losses and right answers summed over the pictures seen.
        best, best_epoch: Rank of the best validation so far, and its epoch, from 1.
        phase_best, since_best: Rank of the best one of the phase so far, and the epochs since.
        plateau: Factor that the plateau schedule has come to in the phase.
        history: A row for each epoch done.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best: tuple[float, float] = NOTHING
    best_epoch: int = 0
    phase_best: tuple[float, float] = NOTHING
    since_best: int = 0
    plateau: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def reached(self) -> tuple[int, int]:
        """The next epoch and step, as `checkpoint.Peek` has them."""
        return self.epoch, self.step_in_epoch

    @property
    def where(self) -> str:
        """The next step, as people count."""
        return f"epoch {self.epoch + 1}, step {self.step_in_epoch + 1}"

    def add(self, loss: float, right: float, pictures: int) -> None:
        """Count a step."""
        self.step_in_epoch += 1
        self.loss_sum += loss * pictures
        self.right += right
        self.seen += pictures

    def go_to(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch, self.step_in_epoch = epoch, 0
        self.loss_sum, self.right, self.seen, self.seconds = 0.0, 0.0, 0, 0.0

    def begin_phase(self) -> None:
        """Forget what only counts within a phase."""
        self.phase_best, self.since_best, self.plateau = NOTHING, 0, 1.0


@dataclass(eq=False)
class Training:
    """A training under way: what a step works with, and what it changes.

    Attributes:
        job: What is trained on what.
        settings: Complete settings, with a precision.
        seed: Of order, dropout and mixing.
        steps_per_epoch: How many steps an epoch has.
        optimizer: Of the job's groups.
        peaks: Their learning rates at the peak.
        run: Where the training is.
        average: The averaged weights; empty where none are kept.
        best: The weights that validation found best.
    """

    job: Job
    settings: TrainingSettings
    seed: int
    steps_per_epoch: int
    optimizer: torch.optim.Optimizer
    peaks: list[float]
    run: Run
    average: Tensors
    best: Tensors

    @property
    def epochs(self) -> int:
        """How many epochs there are."""
        return int(self.settings.epochs or 1)

    @property
    def phase(self) -> range:
        """The epochs of the phase that the next step is in."""
        first = max(epoch for epoch in self.job.phases if epoch <= self.run.epoch)
        return range(first, min((epoch for epoch in self.job.phases if epoch > first), default=self.epochs))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on from here."""
        return {
            "run": vars(self.run),
            "average": self.average,
            "best": self.best,
            "precision": self.settings.precision,
            "network": self.job.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
