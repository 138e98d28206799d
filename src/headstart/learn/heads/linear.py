"""Logistic regression, its L2 strength chosen by cross-validation; for several labels one against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch.nn import functional as F

from headstart.core.errors import SettingError
from headstart.learn.heads.base import (
    ClassWeight,
    Examples,
    FittedHead,
    OnHeadEpoch,
    Validation,
    check_examples,
    fold_scaling,
    losses_of,
    make_linear,
    share_right,
)
from headstart.learn.heads.folds import deal_folds
from headstart.learn.heads.logistic import ROUGH, Axes, Problems, find_axes, solve

Scaling = Literal["common", "feature"]

# Rows have a mean squared norm of 1, so the range suits any backbone; it starts where everything is shrunk to the mean.
STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-2, 11))
# Without two pictures of any class nothing can be held out.
FALLBACK = 100.0
# Multiply-adds of one matrix product over all folds (about 0.1 s), of one solution (a few seconds), and coefficients
# over all folds. With very many classes these leave fewer folds, fewer steps, and every other strength.
PRODUCT_LIMIT, SOLUTION_LIMIT, COEFFICIENT_LIMIT = 6_500_000_000, 200_000_000_000, 3_000_000


@dataclass(frozen=True)
class LinearHead:
    """Logistic regression on all views, folded into one `nn.Linear`.

    The objective is scikit-learn's `LogisticRegression`: `C * sum_i w_i loss_i + |W|² / 2`, on features that are
    centred and divided by one common scale, so that the mean squared norm of a row is 1. `C` is chosen by the
    cross-validated log loss over `STRENGTHS`, from strong to weak, until it has risen twice in a row.

    Dividing every feature by its own standard deviation (`scaling="feature"`) is the habit, but it blows up features
    that hardly vary: with five pictures a class it named 0.77 of ants and bees right where the common scale named 0.92,
    and with all of them it was still the worse one in nested cross-validation, for EfficientNet and VGG16 alike.

    Attributes:
        C: Inverse of the L2 strength; None chooses it.
        scaling: `common` or `feature`; either way the mean squared norm of a row is 1.
        folds: At most so many folds of cross-validation.
    """

    name: ClassVar[str] = "linear"

    C: float | None = None
    scaling: Scaling = "common"
    folds: int = 5

    def __post_init__(self) -> None:
        if self.C is not None and not (np.isfinite(self.C) and self.C > 0):
            raise SettingError(f"C is {self.C!r}: give a number above 0, or None to have it chosen.")
        if self.scaling not in get_args(Scaling):
            raise SettingError(f"scaling is {self.scaling!r}: choose one of {', '.join(get_args(Scaling))}.")
        if self.folds < 2:
            raise SettingError(f"folds is {self.folds!r}: give a whole number from 2.")

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
        """See `Head.fit`. Every view is a row that weighs 1 / views; `validation` and `on_epoch` are ignored.

        Several labels a picture are as many logistic regressions with the same `C`, which the mean log loss chooses.
        """
        examples = check_examples(features, targets, num_classes, groups, class_weight, several=True)
        rows = examples.rows()
        mean, scale = row_scaling(rows, self.scaling)
        scaled = rows - mean
        scaled /= scale  # in place: wide features are large
        axes = find_axes(scaled)
        labels, weights = examples.spread(examples.targets), examples.spread(examples.weights) / examples.views
        chosen: dict[str, Any] = {"C": self.C, "scaling": self.scaling}
        start = None
        if self.C is None:
            held_out = np.repeat(self._hold_out(examples, axes, num_classes, seed), examples.views)
            folds = Problems(axes, labels, _leave_out(weights, held_out, range(held_out.max() + 1)), num_classes)
            picked, best = _choose(folds, weights, torch.from_numpy(held_out))
            chosen |= picked
            start = None if best is None else best.view(len(folds.weights), folds.columns, -1).mean(0)
        whole = Problems(axes, labels, weights[None], num_classes)
        solution = solve(whole, chosen["C"], start=start, steps=_steps(whole))
        weight, bias = axes.to_features(solution[:, :-1]), solution[:, -1]
        if whole.is_binary:
            weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
        return FittedHead(fold_scaling(make_linear(weight, bias), mean, scale).eval(), chosen)

    def _hold_out(self, examples: Examples, axes: Axes, num_classes: int, seed: int) -> np.ndarray:
        """Return the fold of each picture, and of those folds as many as the time allows; the others become -1."""
        held_out = deal_folds(examples.targets.numpy(), examples.groups, self.folds, seed)
        held_out[held_out >= _affordable(axes, num_classes)] = -1
        return held_out


def cross_validated(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    *,
    groups: np.ndarray | None = None,
    trusted: np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Return what the linear head says of each picture when it has not learned from it or its group.

    The strength is the one with the best cross-validated log loss, as in `LinearHead`; all folds are solved together.

    Args:
        features: `(n, d)`.
        targets: int `(n,)`.
        num_classes: c.
        groups: `(n,)`, pictures that are never on both sides of a fold.
        trusted: bool `(n,)`: the others are judged like all, but nothing is learned from them; None trusts all.
        folds: At most so many.
        seed: Of the folds.

    Returns:
        float32 `(n, c)`, rows summing to 1; rows of NaN where a picture cannot be held out, because its class has no
        other group.

    Raises:
        DataError: As `LinearHead.fit`, of the trusted pictures.
    """
    examples = check_examples(features, targets, num_classes, groups, None)
    if trusted is not None:  # of the trusted alone, each class needs one
        check_examples(features[trusted], targets[trusted], num_classes, None, None)
    rows = examples.rows()
    mean, scale = row_scaling(rows, "common")
    axes = find_axes((rows - mean) / scale)
    held_out = deal_folds(examples.targets.numpy(), examples.groups, folds, seed)
    weights = examples.weights if trusted is None else examples.weights * torch.from_numpy(np.asarray(trusted, bool))
    out = torch.full((len(held_out), num_classes), torch.nan)
    at_once, strength = _affordable(axes, num_classes), None
    for first in range(0, int(held_out.max()) + 1, at_once):
        some = range(first, min(first + at_once, int(held_out.max()) + 1))
        part = Problems(axes, examples.targets, _leave_out(weights, held_out, some), num_classes)
        fold = torch.from_numpy(np.where(np.isin(held_out, some), held_out - first, -1))
        if strength is None:
            chosen, best = _choose(part, weights, fold)
            strength = chosen["C"]
        else:
            best = solve(part, strength, tolerance=ROUGH, steps=_steps(part))
        judged = torch.nonzero(fold >= 0)[:, 0]
        if best is not None and len(judged):
            out[judged] = F.softmax(part.logits(best)[fold[judged], :, judged], dim=1)
    return out.numpy()


def row_scaling(rows: torch.Tensor, scaling: Scaling) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and scale, float32 `(d,)`: after them rows `(n, d)` are centred, with a mean squared norm of 1."""
    # In float64, but not all columns at once: that would take twice the memory of the features.
    parts = [torch.var_mean(some.double(), dim=0, correction=0) for some in torch.split(rows, 256, dim=1)]
    variances, mean = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    # What is only rounding of a large constant is no variation.
    variances = torch.where(variances > (1e-6 * mean) ** 2, variances, 0)
    varying = variances > 0
    if not varying.any():
        return mean.float(), torch.ones_like(mean).float()
    if scaling == "common":
        scale = variances.sum().sqrt().expand(len(mean))
    else:
        scale = torch.where(varying, variances, 1).sqrt() * varying.sum().sqrt()
    return mean.float(), scale.float()


def _steps(problems: Problems) -> int:
    product = problems.axes.coordinates.numel() * problems.columns * len(problems.weights)
    return min(500, max(20, SOLUTION_LIMIT // product))


def _affordable(axes: Axes, num_classes: int) -> int:
    """Return how many folds may be solved together."""
    rows, count = axes.coordinates.shape
    columns = 1 if num_classes == 2 else num_classes
    return max(1, min(PRODUCT_LIMIT // (rows * count * columns), COEFFICIENT_LIMIT // (count * columns)))


def _leave_out(weights: torch.Tensor, held_out: np.ndarray, folds: range) -> torch.Tensor:
    """Return the weights of the rows in each fold's training, `(folds, n)`."""
    return weights * torch.from_numpy(held_out != np.asarray(folds, np.int64)[:, None])


def _choose(
    folds: Problems, weights: torch.Tensor, held_out: torch.Tensor
) -> tuple[dict[str, Any], torch.Tensor | None]:
    """Return the chosen strength with its figures, and the coefficients of all folds near their solution."""
    count = len(folds.weights)
    if not count:
        return {"C": FALLBACK, "folds": 0}, None
    judged = torch.nonzero(held_out >= 0)[:, 0]
    share = weights[judged] / weights[judged].sum()
    tried: list[dict[str, float]] = []
    coefficients = best = None
    steps = _steps(folds)
    for C in STRENGTHS if steps >= 100 else STRENGTHS[::2]:
        coefficients = solve(folds, C, start=coefficients, tolerance=ROUGH, steps=steps)
        logits = folds.logits(coefficients)[held_out[judged], :, judged]
        losses, right = losses_of(logits, folds.targets[judged]), share_right(logits, folds.targets[judged])
        figures = {"C": C, "log_loss": float(losses @ share), "accuracy": float(right.double().mean())}
        if not tried or figures["log_loss"] < min(one["log_loss"] for one in tried):
            best = coefficients
        tried.append(figures)
        if len(tried) > 2 and tried[-1]["log_loss"] > tried[-2]["log_loss"] > tried[-3]["log_loss"]:
            break
    top = min(tried, key=lambda one: one["log_loss"])
    assert best is not None
    return {
        "C": top["C"],
        "folds": count,
        "cv_log_loss": top["log_loss"],
        "cv_accuracy": top["accuracy"],
        "tried": tried,
    }, best
