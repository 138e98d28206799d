"""What the network says of the validation pictures, and how good that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from headstart.core.labels import mean_average_precision
from headstart.learn.finetune.loss import losses_of, right_of
from headstart.learn.finetune.tensors import Tensors, as_inputs, copy_tensors

if TYPE_CHECKING:
    from headstart.learn.finetune.state import Job

LARGEST_BATCH = 64


@dataclass(frozen=True)
class Judged:
    """Means over the validation pictures.

    Attributes:
        loss: With the weights of the validation pictures.
        unweighted_loss: With every picture alike.
        accuracy: Share that is named right, with every picture alike.
        score: What the best epoch is chosen by.
        measure: What that is: `accuracy`; with weights `weighted_accuracy`, since an epoch that gives up a rare class
            would win by the plain one; with several labels `mean_average_precision`.
    """

    loss: float
    unweighted_loss: float
    accuracy: float
    score: float
    measure: str = "accuracy"

    @property
    def rank(self) -> tuple[float, float]:
        """What is larger for the better one: the better score wins and, of equal ones, the surer."""
        return self.score, -self.loss


def validate(job: Job, average: Tensors, batch_size: int = LARGEST_BATCH) -> Judged:
    """Judge the network on the validation pictures, with the averaged weights where they are kept.

    Args:
        job: Has the network and the pictures.
        average: The averaged weights, or nothing.
        batch_size: Pictures a step of training.
    """
    kept = copy_tensors(job.network) if average else {}
    if average:
        job.network.load_state_dict(average)
    parts = list(validation_logits(job, batch_size))
    if average:
        job.network.load_state_dict(kept)
    y = job.validation_targets[torch.cat([rows for rows, _ in parts])]
    logits = torch.cat([logits for _, logits in parts])
    of_each = losses_of(logits, y, job.loss), right_of(logits, y, job.loss)
    losses, right = (values.cpu().double().numpy() for values in of_each)  # Apple's GPUs have no float64
    weights = job.validation_weights
    score, measure = float(np.average(right, weights=weights)), "accuracy"
    if job.loss == "sigmoid":
        score = mean_average_precision(y.cpu().numpy() > 0.5, logits.cpu().numpy())
        measure = "mean_average_precision"
    elif weights is not None:
        measure = "weighted_accuracy"
    return Judged(float(np.average(losses, weights=weights)), float(losses.mean()), float(right.mean()), score, measure)


def validation_logits(job: Job, batch_size: int = LARGEST_BATCH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield rows of the validation pictures and their logits `(rows, c)`, float32; the network is set to `eval()`.

    No batch is larger than one of training, which needs more memory: for gradients, and all activations at once. Where
    a network could be trained it can so be validated, and whoever lowers `batch_size` lowers what both need.

    Args:
        job: Has the network and the pictures.
        batch_size: Pictures a step of training.
    """
    job.network.eval()
    count, size = len(job.validation_targets), min(batch_size, LARGEST_BATCH)
    batches = [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
    for rows, inputs in zip(batches, job.validation.batches(batches, 0), strict=True):
        with torch.no_grad():
            logits = job.network(as_inputs(inputs, job.device)).float()
        yield torch.from_numpy(rows).to(job.device), logits
