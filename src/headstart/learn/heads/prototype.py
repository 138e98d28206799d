"""Nearest class mean by cosine: the head for a handful of pictures a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from headstart.core.errors import SettingError
from headstart.learn.heads.base import (
    ClassWeight,
    Examples,
    FittedHead,
    OnHeadEpoch,
    Validation,
    check_examples,
    make_linear,
)
from headstart.networks.layers import UnitNorm

# Where nothing can be left out to choose it by: where Gidaris and Komodakis (2018, arXiv:1804.09458) start theirs.
FALLBACK = 10.0
SCALES = tuple(2.0 ** (exponent / 4) for exponent in range(0, 41))


@dataclass(frozen=True)
class PrototypeHead:
    """Names the class whose mean is nearest in angle.

    The nearest class mean of Mensink et al. (2013, TPAMI 35(11)), the prototypes of Snell et al. (2017,
    arXiv:1703.05175), on features of length 1 as in Baseline++ of Chen et al. (2019, arXiv:1904.04232):
    `logits = scale * cos(features, mean of the class's features of length 1)`, less their mean. The scale is the
    inverse of the softmax's temperature; it changes no answer, only how sure it is, and is chosen by the log loss of
    every picture on prototypes made without it (and without its group).

    Features are not centred first (Wang et al. 2019, "SimpleShot"): with one picture a class that cost 4 to 10 points
    of accuracy (ants and bees, cats and dogs; EfficientNet and VGG16), with twenty it made -4 to +0.5 points.

    Every class counts alike by construction, so `class_weight` changes nothing.

    Attributes:
        scale: None chooses it; 10 where no class has two groups of pictures.
    """

    name: ClassVar[str] = "prototype"

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not (np.isfinite(self.scale) and self.scale > 0):
            raise SettingError(f"scale is {self.scale!r}: give a number above 0, or None to have it chosen.")

    def fit(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        num_classes: int,
        *,
        groups: np.ndarray | None = None,
        class_weight: ClassWeight = None,
        seed: int = 0,
        validation: Validation = None,
        on_epoch: OnHeadEpoch | None = None,
    ) -> FittedHead:
        """See `Head.fit`. All views count; `class_weight`, `seed`, `validation` and `on_epoch` change nothing."""
        examples = check_examples(features, targets, num_classes, groups, class_weight)
        rows = F.normalize(examples.rows(), dim=1, eps=1e-12)
        labels = examples.spread(examples.targets)
        sums = torch.zeros(num_classes, rows.shape[1]).index_add_(0, labels, rows)
        prototypes = F.normalize(sums, dim=1, eps=1e-12)
        chosen: dict[str, Any] = {"scale": self.scale}
        if self.scale is None:
            chosen |= _choose(rows, examples, sums, prototypes)
        # What the prototypes share adds the same to all logits: without it they are small, and exact in float32.
        layer = make_linear((prototypes - prototypes.mean(0)) * chosen["scale"], torch.zeros(num_classes))
        return FittedHead(nn.Sequential(UnitNorm(), layer).eval(), chosen)


def _choose(rows: torch.Tensor, examples: Examples, sums: torch.Tensor, prototypes: torch.Tensor) -> dict[str, Any]:
    """Return the scale with the lowest leave-one-group-out log loss, and its figures."""
    labels = examples.spread(examples.targets)
    # A picture's group changes only the prototypes of the classes that its pictures have: mostly its own.
    pairs = np.stack([np.repeat(examples.groups, examples.views), labels.numpy()])
    _, unit = np.unique(pairs, axis=1, return_inverse=True)
    units = torch.from_numpy(unit.reshape(-1))
    taken = torch.zeros(int(units.max()) + 1, rows.shape[1]).index_add_(0, units, rows)
    of_class = torch.bincount(labels)[labels]
    judged = torch.nonzero(of_class > torch.bincount(units)[units])[:, 0]
    if not len(judged):
        return {"scale": FALLBACK, "left_out": 0}
    cosines = rows[judged] @ prototypes.T
    without = F.normalize(sums[labels[judged]] - taken[units[judged]], dim=1, eps=1e-12)
    cosines.scatter_(1, labels[judged][:, None], (rows[judged] * without).sum(1, keepdim=True))
    losses = [float(F.cross_entropy(cosines * scale, labels[judged])) for scale in SCALES]
    best = int(np.argmin(losses))
    return {
        "scale": SCALES[best],
        "left_out": len(judged),
        "cv_log_loss": losses[best],
        "cv_accuracy": float((cosines.argmax(1) == labels[judged]).double().mean()),
    }
