"""Logistic regression with an L2 penalty: several fits on the same rows in one batched L-BFGS.

Multinomial, or for several labels a row each label by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

# L-BFGS stops when the steepest slope is this share of the slope at zero: 1e-4 gives cross-validated log losses to
# about three digits, 1e-5 the probabilities of scikit-learn to better than 1e-3.
ROUGH, FINE = 1e-4, 1e-5
# Up to this many axes the eigenvectors cost less (about 1 s at 2,000) than the steps that they save.
MAX_AXES = 2500


@dataclass(frozen=True, eq=False)
class Axes:
    """The principal axes of the rows: in them the curvature of the objective is nearly diagonal.

    The L2 penalty does not change under rotation, so the solution is the same, reached in a fifth of the steps; and n
    rows have at most n axes, whatever the number of features.

    Attributes:
        coordinates: float32 `(n, r)`, the rows in the r axes.
        variances: float32 `(r,)`, mean squared coordinate.
        basis: float32 `(d, r)`, orthonormal, or None when the axes are the features themselves.
    """

    coordinates: torch.Tensor
    variances: torch.Tensor
    basis: torch.Tensor | None

    def to_features(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return coefficients `(…, r)` on the axes as coefficients `(…, d)` on the features."""
        return coefficients if self.basis is None else coefficients @ self.basis.T


def find_axes(rows: torch.Tensor) -> Axes:
    """Return the principal axes of centred rows, float32 `(n, d)`."""
    n, d = rows.shape
    if min(n, d) > MAX_AXES:
        return Axes(rows, rows.square().mean(0), None)
    if d <= n:
        squares, basis = torch.linalg.eigh(rows.T @ rows)
    else:
        squares, vectors = torch.linalg.eigh(rows @ rows.T)
        there = squares > 1e-6 * squares[-1]  # the rest is rounding
        squares = squares[there]
        basis = rows.T @ (vectors[:, there] / squares.sqrt())
    return Axes(rows @ basis, squares.clamp(min=0) / n, basis)


@dataclass(frozen=True, eq=False)
class Problems:
    """One or more logistic regressions on the same rows, which differ in the weights of the rows.

    Each minimises `sum_i w_i loss_i + |W|² / (2 C)`, scikit-learn's objective; the intercept is not penalised. Two
    classes share one column (the logits are its half and minus its half), as in scikit-learn. With several labels a row
    each label is a logistic regression by itself, with the same C: the loss of a row is the sum over its labels.

    Attributes:
        axes: Of the n rows.
        targets: int64 `(n,)`, or float32 `(n, c)` of 0 and 1 for several labels a row.
        weights: float32 `(p, n)`, the weight of each row in each of the p problems; 0 leaves a row out.
        num_classes: c.
    """

    axes: Axes
    targets: torch.Tensor
    weights: torch.Tensor
    num_classes: int

    @property
    def several(self) -> bool:
        """Whether a row may have several labels."""
        return self.targets.ndim == 2

    @property
    def is_binary(self) -> bool:
        """Whether one column tells two classes apart."""
        return self.num_classes == 2 and not self.several

    @property
    def columns(self) -> int:
        """How many columns of coefficients one problem has."""
        return 1 if self.is_binary else self.num_classes

    def scores(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return `(p, columns, n)` from coefficients `(p x columns, r + 1)`, whose last column is the intercept."""
        flat = torch.addmm(coefficients[:, -1:], coefficients[:, :-1], self.axes.coordinates.T)
        return flat.view(-1, self.columns, len(self.targets))

    def logits(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return `(p, c, n)`."""
        scores = self.scores(coefficients)
        return torch.cat([-scores / 2, scores / 2], 1) if self.is_binary else scores

    def objective(self, coefficients: torch.Tensor, C: float) -> tuple[float, torch.Tensor]:
        """Return the sum over problems of the objective divided by the problem's weight, and its gradient."""
        totals = self.weights.sum(1, keepdim=True)
        weights = self.weights / totals
        scores = self.scores(coefficients)
        if self.is_binary or self.several:
            sign = (2 * self.targets - 1).to(scores.dtype).movedim(0, -1)  # (n,), or (c, n)
            margins = sign * scores
            losses = F.softplus(-margins).sum(1)
            residuals = -sign * torch.sigmoid(-margins) * weights[:, None]
        else:
            own = self.targets.expand(len(scores), 1, -1)
            logs = F.log_softmax(scores, 1)
            losses = -logs.gather(1, own)[:, 0]
            residuals = logs.exp_().scatter_add_(1, own, -torch.ones_like(own, dtype=logs.dtype)) * weights[:, None]
        residuals = residuals.reshape(-1, len(self.targets))
        shrunk = coefficients[:, :-1] * (1 / (C * totals)).repeat_interleave(self.columns, 0)
        # Sums in float64: the line search compares losses that differ in the last digits of float32.
        penalty = (coefficients[:, :-1] * shrunk).sum(dtype=torch.float64) / 2
        loss = (losses * weights).sum(dtype=torch.float64) + penalty
        gradient = torch.cat([residuals @ self.axes.coordinates + shrunk, residuals.sum(1, keepdim=True)], 1)
        return float(loss), gradient

    def curvature(self, coefficients: torch.Tensor, C: float) -> torch.Tensor:
        """Return a positive diagonal `(r + 1,)` that stands for the Hessian: mean p (1 - p) times the variances."""
        logits = self.logits(coefficients)
        p = torch.sigmoid(logits) if self.several else torch.softmax(logits, 1)
        spread = float((p * (1 - p)).mean().clamp(min=1e-4))
        variances = torch.cat([self.axes.variances, torch.ones(1)])
        penalty = torch.full_like(variances, 1 / (C * float(self.weights.sum(1).mean())))
        penalty[-1] = 0
        return spread * variances + penalty


def solve(
    problems: Problems, C: float, *, start: torch.Tensor | None = None, tolerance: float = FINE, steps: int = 500
) -> torch.Tensor:
    """Return the coefficients of every problem, float32 `(p x columns, r + 1)`, the intercepts in the last column.

    L-BFGS in coordinates scaled by the root of the curvature. The problems are minimised together: their sum is
    separable, so its minimum is the minimum of each, and all of them cost one matrix product a step.

    Args:
        problems: What to fit.
        C: Inverse of the L2 strength, as in scikit-learn.
        start: Coefficients to start from, such as those of a neighbouring strength.
        tolerance: See `ROUGH`, `FINE`.
        steps: At most so many.
    """
    zero = torch.zeros(len(problems.weights) * problems.columns, problems.axes.coordinates.shape[1] + 1)
    start = zero if start is None else start
    scale = problems.curvature(start, C).sqrt()

    def objective(scaled: torch.Tensor) -> tuple[float, torch.Tensor]:
        loss, gradient = problems.objective(scaled / scale, C)
        return loss, gradient / scale

    steepest = float(objective(zero)[1].abs().max())
    return _lbfgs(objective, start * scale, tolerance * steepest, steps) / scale


def _lbfgs(
    objective: Callable[[torch.Tensor], tuple[float, torch.Tensor]], point: torch.Tensor, tolerance: float, steps: int
) -> torch.Tensor:
    """Return the minimum of a convex function (Nocedal and Wright 2006, algorithms 7.4 and 7.5, backtracking).

    Written out because the first use of `torch.optim` imports the compiler (2 s), and SciPy's L-BFGS-B spends more
    time on its bounds than on these objectives. A convex function meets the curvature condition at any step.
    """
    loss, slope = objective(point)
    pairs: deque[tuple[torch.Tensor, torch.Tensor, float]] = deque(maxlen=10)
    for _ in range(steps):
        if float(slope.abs().max()) <= tolerance:
            break
        direction = _two_loops(slope, pairs)
        along, size = _dot(slope, direction), 1.0
        while True:
            moved, turned = objective(point + size * direction)
            # The last term is what float32 cannot tell apart.
            if moved <= loss + 1e-4 * size * along + 1e-9 * abs(loss):
                break
            size /= 2
            if size < 1e-4:
                return point
        step, change = size * direction, turned - slope
        product = _dot(step, change)
        if product > 0:
            pairs.append((step, change, product))
        point, loss, slope = point + step, moved, turned
    return point


def _two_loops(slope: torch.Tensor, pairs: deque[tuple[torch.Tensor, torch.Tensor, float]]) -> torch.Tensor:
    """Return minus the inverse Hessian, as far as the last steps know it, times the slope."""
    direction, shares = -slope, []
    for step, change, product in reversed(pairs):
        shares.append(_dot(step, direction) / product)
        direction = direction - shares[-1] * change
    if pairs:
        _, change, product = pairs[-1]
        direction = direction * (product / _dot(change, change))
    for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
        direction = direction + (share - _dot(change, direction) / product) * step
    return direction


def _dot(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.dot(one.view(-1), other.view(-1)))
