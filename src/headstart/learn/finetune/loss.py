"""The loss of fine-tuning, what classes weigh in it, and which pictures are named right."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from headstart.learn.dataset import count_classes
from headstart.learn.heads import ClassWeight
from headstart.learn.heads.base import class_weights, share_right


def losses_of(logits: torch.Tensor, targets: torch.Tensor, kind: str, smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy of each picture, float `(n,)`; with `sigmoid` the mean over its labels.

    Args:
        logits: `(n, c)`.
        targets: Float `(n, c)`.
        kind: `softmax` or `sigmoid`.
        smoothing: Share of each target that is spread over all classes, or over both answers of a label.
    """
    if kind == "sigmoid":
        smoothed = targets * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(dim=1)
    return functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)


def weights_of(targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return what each picture weighs, float `(n,)`: its class's weight or, of a mixed one, that of its parts.

    The targets, float `(n, c)`, are those before smoothing. Weights inside the smoothed cross-entropy, as torch has
    them, would weigh the smoothed share of a common picture by the rare class's weight, and pull the picture there.
    """
    return torch.ones(len(targets), device=targets.device) if weights is None else targets @ weights


def picture_weights(wanted: ClassWeight, targets: np.ndarray, classes: int) -> np.ndarray | None:
    """Return what each picture counts where a network is judged, float64 `(n,)`, or None where all count alike.

    Of `balanced` the classes that occur among the pictures count alike, so that the weighted accuracy is the balanced
    one and the weighted loss, as that of training, the mean of the classes' own.

    Args:
        wanted: None, `balanced`, or a weight for each class index.
        targets: int `(n,)`; with several labels, bool `(n, c)`, pictures always count alike.
        classes: c.
    """
    if wanted is None:
        return None
    counts = np.maximum(1, count_classes(targets, classes))
    return np.asarray(class_weights(wanted, counts)[targets])


def right_of(logits: torch.Tensor, targets: torch.Tensor, kind: str) -> torch.Tensor:
    """Return how right each picture is named, float `(n,)`: 1 or 0, or with several labels the share of right ones."""
    return share_right(logits, targets if kind == "sigmoid" else targets.argmax(dim=1))


def scaled_weights(wanted: ClassWeight, targets: np.ndarray, classes: int) -> torch.Tensor | None:
    """Return float32 `(classes,)` weights of integer targets, or None where all weigh alike.

    They are scaled so that their mean over the training pictures is 1: weights change what counts for how much, not
    how long the steps are. The mean loss of many steps is then that of all pictures divided by all their weights, which
    dividing each step by its own weights is not: a step without a rare picture would count as much as one with.

    Raises:
        SettingError: `wanted` is of no known form, names no class, or is not positive.
    """
    if wanted is None:
        return None
    counts = count_classes(targets, classes)
    weights = class_weights(wanted, counts)
    return torch.from_numpy((weights * counts.sum() / (weights * counts).sum()).astype(np.float32))
