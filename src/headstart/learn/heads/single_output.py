"""One sigmoid output for two classes, as the binary tutorials have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from headstart.core.errors import SettingError
from headstart.learn.heads.base import ClassWeight, FittedHead, Head, OnHeadEpoch, Validation, make_linear
from headstart.networks.layers import AgainstZero


@dataclass(frozen=True)
class SingleOutput:
    """Another head, its two outputs folded into their difference; the probabilities are the same.

    Attributes:
        head: The head that is fitted; its last layer is linear.
    """

    name: ClassVar[str] = "single output"

    head: Head

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
        """See `Head.fit`.

        Raises:
            SettingError: There are not exactly two classes.
        """
        if num_classes != 2:
            raise SettingError(f"output is 'sigmoid', but there are {num_classes} classes: choose output 'softmax'.")
        fitted = self.head.fit(
            features,
            targets,
            num_classes,
            groups=groups,
            class_weight=class_weight,
            seed=seed,
            validation=validation,
            on_epoch=on_epoch,
        )
        *below, last = list(fitted.module) if isinstance(fitted.module, nn.Sequential) else [fitted.module]
        assert isinstance(last, nn.Linear)  # as every head ends
        weight, bias = last.weight.detach(), last.bias.detach()
        single = make_linear(weight[1:] - weight[:1], bias[1:] - bias[:1])
        return FittedHead(nn.Sequential(*below, single, AgainstZero()).eval(), fitted.chosen, fitted.history)
