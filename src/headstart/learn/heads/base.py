"""What every head promises, and the checks that all of them make first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from headstart.core.errors import DataError, SettingError
from headstart.learn.dataset import count_classes

ClassWeight = Literal["balanced"] | Mapping[int, float] | None
Validation = tuple[np.ndarray, np.ndarray] | None
# An epoch's row, and how many epochs there will be.
OnHeadEpoch = Callable[[dict[str, float], int], None]


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head that has learned.

    Attributes:
        module: float32 features `(n, d)` -> logits `(n, c)`, in `eval` mode, on the CPU.
        chosen: Hyper-parameters that were chosen, and the cross-validated figures that chose them; plain values.
        history: One row an epoch (`epoch`, `loss`, `accuracy`, …); empty for heads without epochs.
    """

    module: nn.Module
    chosen: dict[str, Any]
    history: tuple[dict[str, float], ...] = ()


class Head(Protocol):
    """A frozen dataclass of hyper-parameters that can be fitted on features."""

    name: ClassVar[str]

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
        """Fit on the features of n pictures. The same arguments give the same head.

        Args:
            features: `(n, d)`, or `(n, v, d)` for v views of each picture; any float type, computed in float32.
            targets: int `(n,)`, from 0 to `num_classes - 1`; or bool `(n, c)`, several labels a picture, of which each
                logit's sigmoid is then the probability (not every head can do that).
            num_classes: c. Every class needs a picture.
            groups: `(n,)`, pictures that belong together (duplicates, one patient); they are never on both sides of a
                fold.
            class_weight: None weighs every picture alike, `balanced` every class alike (scikit-learn's
                `n / (c * count)`), a mapping gives the weight of each class index; missing ones weigh 1.
            seed: Of everything that is drawn.
            validation: Features `(m, d)` and targets `(m,)` to follow the training on; heads without epochs ignore it.
            on_epoch: Called with each epoch's row as soon as it is done, and with how many there will be; heads
                without epochs ignore it.

        Raises:
            DataError: There are fewer than two classes, a class without a picture, or features that are not finite.
            SettingError: Shapes do not fit, `class_weight` names no class or is not positive, or the head cannot learn
                several labels a picture.
        """
        ...


@dataclass(frozen=True, eq=False)
class Examples:
    """Checked training data of n pictures with v views each.

    Attributes:
        features: float32 `(n, v, d)`.
        targets: int64 `(n,)`, or float32 `(n, c)` of 0 and 1 for several labels a picture.
        groups: int64 `(n,)`, equal for pictures that belong together.
        weights: float32 `(n,)`, the weight of each picture's class.
    """

    features: torch.Tensor
    targets: torch.Tensor
    groups: np.ndarray
    weights: torch.Tensor

    @property
    def views(self) -> int:
        """How many views a picture has."""
        return self.features.shape[1]

    def rows(self) -> torch.Tensor:
        """Return every view as a row, float32 `(n x v, d)`, the views of a picture next to each other."""
        return self.features.reshape(-1, self.features.shape[2])

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Return one value (or one row of values) a picture as one a row."""
        return values.repeat_interleave(self.views, dim=0)


def check_examples(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None = None,
    class_weight: ClassWeight = None,
    *,
    several: bool = False,
) -> Examples:
    """Return the training data in one form; see `Head.fit` for the arguments and what is raised.

    Args:
        features: As in `Head.fit`, like the next four.
        targets: See there.
        num_classes: See there.
        groups: See there.
        class_weight: See there.
        several: Whether the head can learn several labels a picture.
    """
    if np.ndim(targets) == 2:
        _check_several(several, class_weight)
    elif num_classes < 2:
        raise DataError(f"there is {num_classes} class: a head tells at least 2 apart. Add pictures of another class.")
    checked, classes = check_features(features, targets, num_classes)
    counts = count_classes(classes, num_classes)
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        shown = ", ".join(map(str, missing[:5].tolist())) + (", …" if len(missing) > 5 else "")
        raise DataError(
            f"{len(missing)} of {num_classes} classes have no training picture (index {shown}). "
            "Add a picture to each, or leave the class out."
        )
    if groups is not None and len(groups) != len(classes):
        raise SettingError(f"groups has {len(groups)} entries for {len(classes)} pictures: give one for each.")
    codes = (
        np.arange(len(classes)) if groups is None else np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    )
    if classes.ndim == 2:
        return Examples(torch.from_numpy(checked), torch.from_numpy(classes).float(), codes, torch.ones(len(classes)))
    weights = class_weights(class_weight, counts)
    return Examples(
        torch.from_numpy(checked),
        torch.from_numpy(classes),
        codes,
        torch.from_numpy(weights[classes].astype(np.float32)),
    )


def _check_several(several: bool, class_weight: ClassWeight) -> None:
    if not several:
        raise SettingError("this head gives each picture one class: choose linear or mlp for several labels.")
    if class_weight is not None:
        raise SettingError(
            f"class_weight is {class_weight!r}: with several labels a picture each has a threshold of its own instead. "
            "Leave class_weight out."
        )


def check_features(features: np.ndarray, targets: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features as float32 `(n, v, d)` and targets as int64 `(n,)` or, of several labels, bool `(n, c)`.

    Raises:
        DataError: There is no picture, or features are not finite.
        SettingError: Shapes do not fit, or a target is no class.
    """
    features, targets = np.asarray(features), np.asarray(targets)
    shapes = (features.shape[:1], (len(features), num_classes))
    if features.ndim not in (2, 3) or 0 in features.shape[1:] or targets.shape not in shapes:
        raise SettingError(
            f"features have shape {features.shape} and targets {targets.shape}: give (n, d) or (n, views, d), and (n,) "
            "or, of several labels, (n, classes)."
        )
    if not len(targets):
        raise DataError("there is no picture to learn from. Give at least one of each class.")
    if targets.ndim == 1 and (targets.min() < 0 or targets.max() >= num_classes):
        raise SettingError(f"targets run from {targets.min()} to {targets.max()}: give 0 to {num_classes - 1}.")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is told below
        checked = np.ascontiguousarray(features, np.float32)
    bad = np.flatnonzero(~np.isfinite(checked.reshape(len(checked), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"features of {len(bad):,} of {len(checked):,} pictures are not finite numbers (first at index {bad[0]}). "
            "Extract them again in float32; if they stay so, the backbone's weights are damaged."
        )
    kind = np.int64 if targets.ndim == 1 else np.bool_
    return checked.reshape(len(checked), -1, checked.shape[-1]), targets.astype(kind)


def losses_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss of each picture, float `(n,)`: cross-entropy, or the mean binary one over its labels.

    Args:
        logits: `(n, c)`.
        targets: int64 `(n,)`, or float `(n, c)`.
    """
    if targets.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    return F.cross_entropy(logits, targets, reduction="none")


def share_right(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how right each picture is, float `(n,)`: 1 or 0, or with several labels the share of right ones."""
    if targets.ndim == 2:
        return ((logits > 0) == (targets > 0.5)).float().mean(dim=1)
    return (logits.argmax(dim=1) == targets).float()


def class_weights(class_weight: ClassWeight, counts: np.ndarray) -> np.ndarray:
    """Return the weight of each class, float64 `(c,)`, from the number of pictures of each.

    Raises:
        SettingError: `class_weight` is of no known form, names no class, or is not positive.
    """
    if class_weight is None:
        return np.ones(len(counts))
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise SettingError(f"class_weight is {class_weight!r}: give None, 'balanced' or a weight for each class.")
        return np.asarray(counts.sum() / (len(counts) * counts))
    weights = np.ones(len(counts))
    for index, weight in class_weight.items():
        if index not in range(len(counts)):
            raise SettingError(f"class_weight names class {index!r}: give indices from 0 to {len(counts) - 1}.")
        if not (np.isfinite(weight) and weight > 0):
            raise SettingError(f"class_weight of class {index} is {weight!r}: give a number above 0.")
        weights[int(index)] = weight
    return weights


def fold_scaling(layer: nn.Linear, mean: torch.Tensor, scale: torch.Tensor) -> nn.Linear:
    """Return the layer that does on raw features what `layer` does on `(features - mean) / scale`."""
    weight = layer.weight.detach().double() / scale.double()
    folded = _empty(layer.in_features, layer.out_features)
    with torch.no_grad():
        folded.weight.copy_(weight)
        folded.bias.copy_(layer.bias.detach().double() - weight @ mean.double())
    return folded


def make_linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """Return a layer with this weight `(c, d)` and bias `(c,)`."""
    layer = _empty(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _empty(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer without values: drawing some would move torch's global generator."""
    return nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
