"""What can go wrong in training, told with what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from headstart.core.errors import TrainingError
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.settings import TrainingSettings

# Guessing among a million classes gives ln(1,000,000) = 14. Compared without class weights, which may be any numbers.
EXPLODED = 50.0
_KEPT = " The last checkpoint is kept."


def check_finite(what: str, value: float, where: str, settings: TrainingSettings) -> None:
    """Raise TrainingError if a loss or gradient is not a number, or a loss is far above what guessing gives.

    Args:
        what: `loss`, `gradient` or another name; where `loss` is in it, it must not be large either.
        value: Of a loss, without class weights.
        where: The epoch, and the step.
        settings: Are told, since they may be the cause.
    """
    if math.isfinite(value) and (value <= EXPLODED or "loss" not in what):
        return
    became = f"rose to {value:.3g}" if math.isfinite(value) else f"became {value}"
    raise TrainingError(
        f"the {what} {became} in {where}: lower learning_rate (now {settings.learning_rate:g}) and "
        f"backbone_learning_rate (now {settings.backbone_learning_rate:g}), or set clip_norm "
        f"(now {settings.clip_norm:g}), by --training NAME=VALUE (learning_rate by --learning-rate, "
        "where you gave it there)."
    )


@contextmanager
def failures_are_explained(settings: TrainingSettings, folder: Path | None = None) -> Iterator[None]:
    """Turn the errors of an allocation that failed into a TrainingError, and let each say whether a checkpoint is kept.

    Args:
        settings: Of the training.
        folder: Where its checkpoints go; None where there are none yet.
    """
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{error}{_kept(folder)}") from error.__cause__
    except (MemoryError, RuntimeError) as error:
        # CUDA has a class of its own (a RuntimeError); on the processor torch has only a text.
        text = str(error)
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text
        if not (short or "out of memory" in text or "not enough memory" in text):
            raise
        raise TrainingError(
            f"memory is short for batches of {settings.batch_size} pictures: lower batch_size "
            f"to {max(1, settings.batch_size // 2)} (--batch-size, or in --training where you gave it there), "
            f"or unfreeze less.{_kept(folder)}"
        ) from error


def without_checkpoint(error: BaseException) -> str:
    """Return what an error says but for the checkpoint, for whoever goes on without it."""
    return str(error).removesuffix(_KEPT)


def _kept(folder: Path | None) -> str:
    return _KEPT if folder is not None and checkpoint.exists(folder) else ""
