"""What can go wrong in training, told with what to change."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from headstart.core.errors import TrainingError
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.settings import TrainingSettings

# Guessing among a million classes gives ln(1,000,000) = 14. Compared without class weights, which may be any numbers.
EXPLODED = 50.0
_KEPT = " The last checkpoint is kept for these very settings; with others training begins anew."
# CUDA has a class of its own; cuBLAS and cuDNN, Apple's GPUs and the processor have texts.
_SHORT_MEMORY = (
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "Invalid buffer size",
    "allocate memory",
    "not enough memory",
    "out of memory",
)


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
    """Turn what the user can do something about into a TrainingError, and let each say whether a checkpoint is kept.

    That is memory that is short, an operator that the device lacks, and normalisation over a single picture.

    Args:
        settings: Of the training.
        folder: Where its checkpoints go; None where there are none yet.
    """
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{error}{_kept(folder)}") from error.__cause__
    except (MemoryError, RuntimeError, ValueError) as error:
        explained = _explained(error, settings)
        if explained is None:
            raise
        raise TrainingError(f"{explained}{_kept(folder)}") from error


def without_checkpoint(error: BaseException) -> str:
    """Return what an error says but for the checkpoint, for whoever goes on without it."""
    return str(error).removesuffix(_KEPT)


def _explained(error: MemoryError | RuntimeError | ValueError, settings: TrainingSettings) -> str | None:
    """Return what happened and what to change; None of an error that is none of the user's doing."""
    text, size = str(error), settings.batch_size
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in text for words in _SHORT_MEMORY):
        lower = f"lower batch_size to {size // 2} (--batch-size, or in --training where you gave it there), or "
        batches = f"batches of {size} pictures: {lower}" if size > 1 else "a single picture: "
        return f"memory is short for {batches}unfreeze less."
    if missing := re.search(r"operator '(\S+)' is not currently implemented for the MPS device", text):
        return (
            f"torch has no operator {missing[1]} on Apple's GPUs: train on the processor (--device cpu), or set "
            "PYTORCH_ENABLE_MPS_FALLBACK=1 in the environment, and the processor does what they cannot."
        )
    if "Expected more than 1 value per channel when training" in text:
        return (
            f"batch_size is {size}, and batch_norm={settings.batch_norm!r} takes statistics over the pictures of a "
            "batch: give a batch_size of 2 or more, or batch_norm='frozen'."
        )
    return None


def _kept(folder: Path | None) -> str:
    return _KEPT if folder is not None and checkpoint.exists(folder) else ""
