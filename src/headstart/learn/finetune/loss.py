"""The loss of fine-tuning, what classes weigh in it, and how many pictures are named right."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from headstart.learn.heads import ClassWeight


def loss_of(
    logits: torch.Tensor, targets: torch.Tensor, kind: str, weights: torch.Tensor | None = None, smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean cross-entropy, `softmax` or `sigmoid`, of logits `(n, c)` with float targets `(n, c)`.

    Class weights `(c,)`: the part of each class in a picture's target counts by the class's weight; the mean is over
    the pictures (torch's definition for targets that are probabilities).
    """
    if kind == "sigmoid":
        smoothed = targets * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, smoothed, weight=weights)
    return functional.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)


def count_right(logits: torch.Tensor, targets: torch.Tensor, kind: str) -> float:
    """Return how many pictures are named right; with several labels a picture counts by its share of right ones."""
    if kind == "sigmoid":
        return float(((logits > 0) == (targets > 0.5)).float().mean(dim=1).sum())
    return float((logits.argmax(dim=1) == targets.argmax(dim=1)).sum())


def class_weights(wanted: ClassWeight, targets: np.ndarray, classes: int) -> torch.Tensor | None:
    """Return float32 `(classes,)` weights, or None; `balanced` is n / (classes x count), as in scikit-learn.

    They are scaled so that their mean over the training pictures is 1: weights change what counts for how much, not
    how long the steps are.
    """
    if wanted is None:
        return None
    counts = np.bincount(targets, minlength=classes)
    if isinstance(wanted, str):
        weights = len(targets) / (classes * np.maximum(counts, 1))
    else:
        weights = np.array([float(wanted.get(index, 1.0)) for index in range(classes)])
    return torch.from_numpy((weights * len(targets) / max((weights * counts).sum(), 1e-12)).astype(np.float32))
