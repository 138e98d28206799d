"""A multilayer perceptron: the "custom head" of the Keras tutorials, trained with Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from headstart.core.errors import SettingError
from headstart.learn.heads.base import (
    ClassWeight,
    Examples,
    FittedHead,
    OnHeadEpoch,
    Validation,
    check_examples,
    check_features,
    fold_scaling,
    losses_of,
    share_right,
)
from headstart.learn.heads.linear import row_scaling


@dataclass(frozen=True)
class MLPHead:
    """Dense layers with ReLU and dropout, then one output a class.

    Features are centred and divided by one common scale, so that their mean square is 1 and one learning rate suits
    every backbone; the scaling is folded into the first layer. With several views a picture, epoch e sees view e
    modulo v of each: as in Keras, every epoch is one differently augmented pass over the pictures.

    Attributes:
        hidden: Sizes of the hidden layers; none makes it a linear head trained by gradient descent.
        dropout: Share of the hidden units that is dropped in training, from 0 to below 1.
        epochs: Passes over the pictures.
        batch_size: Pictures a step.
        learning_rate: Of Adam (Kingma and Ba 2015, arXiv:1412.6980).
        patience: Epochs without a lower validation loss before training stops and the best epoch is taken; 0 never, and
            without validation pictures nothing is stopped.
    """

    name: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (256,)
    dropout: float = 0.5
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    patience: int = 0

    def __post_init__(self) -> None:
        if not all(_is_whole(size, 1) for size in self.hidden):
            raise SettingError(f"hidden is {self.hidden!r}: give whole numbers from 1, such as (256,).")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"dropout is {self.dropout!r}: give a share from 0 to below 1.")
        if not (_is_whole(self.epochs, 1) and _is_whole(self.batch_size, 1) and _is_whole(self.patience, 0)):
            raise SettingError(
                f"epochs is {self.epochs!r}, batch_size {self.batch_size!r} and patience {self.patience!r}: "
                "give whole numbers from 1 (patience from 0)."
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SettingError(f"learning_rate is {self.learning_rate!r}: give a number above 0, such as 0.001.")

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
        """See `Head.fit`. `groups` is ignored, because nothing is cross-validated."""
        examples = check_examples(features, targets, num_classes, groups, class_weight, several=True)
        mean, scale = row_scaling(examples.rows(), "common")
        scale = scale / math.sqrt(len(scale))
        held_out = None if validation is None else _prepare(validation, num_classes, mean, scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._build(len(mean), num_classes)
            history, best_epoch = self._train(network, examples, (mean, scale), held_out, on_epoch)
        first = network[0]
        assert isinstance(first, nn.Linear)
        network[0] = fold_scaling(first, mean, scale)
        return FittedHead(network.eval(), {"epochs": best_epoch}, tuple(history))

    def _build(self, width: int, num_classes: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for size in self.hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(self.dropout)]
            width = size
        return nn.Sequential(*layers, nn.Linear(width, num_classes))

    def _train(
        self,
        network: nn.Sequential,
        examples: Examples,
        scaling: tuple[torch.Tensor, torch.Tensor],
        held_out: tuple[torch.Tensor, torch.Tensor] | None,
        on_epoch: OnHeadEpoch | None,
    ) -> tuple[list[dict[str, float]], int]:
        """Train in place; return a row an epoch, and the epoch whose weights are kept: with patience the best one."""
        # Fused: one pass over each tensor instead of one for each operation, which is most of a step on wide features.
        optimizer = torch.optim.Adam(network.parameters(), self.learning_rate, fused=True)
        history: list[dict[str, float]] = []
        best, best_epoch, kept, count = math.inf, 0, None, len(examples.targets)
        for epoch in range(self.epochs):
            network.train()
            losses, right, order = 0.0, 0.0, torch.randperm(count)
            for start in range(0, count, self.batch_size):
                rows = order[start : start + self.batch_size]
                logits = network((examples.features[rows, epoch % examples.views] - scaling[0]) / scaling[1])
                targets, weights = examples.targets[rows], examples.weights[rows]
                loss = (losses_of(logits, targets) * weights).sum() / weights.sum()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                losses += float(loss.detach()) * len(rows)
                right += float(share_right(logits, targets).sum())
            row: dict[str, float] = {"epoch": epoch + 1, "loss": losses / count, "accuracy": right / count}
            if held_out is not None:
                row["val_loss"], row["val_accuracy"] = _judge(network, *held_out)
            history.append(row)
            if on_epoch is not None:
                with torch.random.fork_rng(devices=[]):  # whatever is drawn there changes no epoch
                    on_epoch(row, self.epochs)
            if self.patience and held_out is not None:
                if row["val_loss"] < best:
                    best, best_epoch = row["val_loss"], epoch + 1
                    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
                elif epoch + 1 - best_epoch >= self.patience:
                    break
        if kept is None:
            return history, len(history)
        network.load_state_dict(kept)
        return history, best_epoch


def _prepare(
    validation: tuple[np.ndarray, np.ndarray], num_classes: int, mean: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    features, targets = check_features(*validation, num_classes)
    if features.shape[2] != len(mean):
        raise SettingError(f"validation features have {features.shape[2]} columns; training features have {len(mean)}.")
    known = torch.from_numpy(targets)
    return (torch.from_numpy(features[:, 0]) - mean) / scale, known.float() if known.ndim == 2 else known


def _judge(network: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    network.eval()
    with torch.inference_mode():
        logits = network(features)
    return float(losses_of(logits, targets).mean()), float(share_right(logits, targets).double().mean())


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
