"""The training loop, written out from top to bottom.

All randomness of a step comes from the seed and the number of the step, and all randomness of an epoch from the seed
and the number of the epoch. A checkpoint therefore needs no state of any generator, and a run that is resumed takes
exactly the steps that it would have taken: on a processor with as many threads its weights are bitwise equal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.core.errors import CacheError
from headstart.core.labels import mean_average_precision
from headstart.core.progress import Progress
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.failures import check_finite, failures_are_explained
from headstart.learn.finetune.loss import count_right, losses_of, weights_of
from headstart.learn.finetune.mixing import mix
from headstart.learn.finetune.optimizer import make_optimizer
from headstart.learn.finetune.schedule import factor
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.source import Source
from headstart.learn.finetune.tensors import (
    Tensors,
    as_inputs,
    clone,
    copy_tensors,
    own_random_state,
    seed_step,
    update_average,
)

PLATEAU_EPOCHS = 2
VALIDATION_BATCH = 64

OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True, eq=False)
class Job:
    """What is trained on what.

    Attributes:
        network: Inputs of the source -> logits; its frozen parts are frozen.
        groups: Optimizer parameter groups: `params` and the peak `lr` of each.
        train, validation: Where inputs come from.
        targets, validation_targets: float32 `(n, c)`: one-hot, or several ones a row.
        loss: `softmax` or `sigmoid` cross-entropy.
        class_weights: float32 `(c,)`, or None.
        start_epoch: Called with the number of each epoch before it, to unfreeze more.
        device: Where the network is; targets and class weights are there too.
    """

    network: nn.Module
    groups: list[dict[str, Any]]
    train: Source
    validation: Source
    targets: torch.Tensor
    validation_targets: torch.Tensor
    loss: str
    class_weights: torch.Tensor | None
    start_epoch: Callable[[int], None]
    device: torch.device


@dataclass
class Run:
    """Where a run is; all of it is in the checkpoint.

    Attributes:
        epoch, step_in_epoch: The next step, from 0.
        loss_sum, right, seen, seconds: Of the epoch so far: losses and right answers summed over the pictures seen.
        plateau: Factor that the plateau schedule has come to.
        since_best: Epochs since validation was best.
        best_loss, best_score: Of the best validation; the score is the accuracy, or the mean average precision.
        history: A row for each epoch done.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    plateau: float = 1.0
    since_best: int = 0
    best_loss: float = math.inf
    best_score: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The next step, as people count."""
        return f"epoch {self.epoch + 1}, step {self.step_in_epoch + 1}"

    def add(self, loss: float, right: float, pictures: int, seconds: float) -> None:
        """Count a step."""
        self.step_in_epoch += 1
        self.loss_sum += loss * pictures
        self.right += right
        self.seen += pictures
        self.seconds += seconds


@dataclass(frozen=True, eq=False)
class Result:
    """The best weights by validation, one row an epoch, and the epoch (from 0) that the run was resumed in, or None."""

    best: Tensors
    history: tuple[dict[str, float], ...]
    resumed_at: int | None


def train(
    job: Job,
    settings: TrainingSettings,
    *,
    seed: int,
    folder: Path | None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Train, keep the weights that are best on validation, and leave a checkpoint that can be resumed exactly.

    Args:
        job: What is trained on what.
        settings: Complete settings, with a precision.
        seed: Of order, dropout and mixing.
        folder: Where checkpoints go; None writes none.
        resume: Whether to continue from a checkpoint in `folder`.
        progress: Is shown the pictures of all epochs, and told of each epoch.
        on_epoch: Called with each epoch's row.

    Raises:
        TrainingError: The loss is not a number or explodes, or memory is short.
        CacheError: The checkpoint cannot be read or written.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, between two steps, with the state saved.
    """
    progress = progress or Progress()
    network, count, epochs = job.network, len(job.targets), int(settings.epochs or 1)
    optimizer = make_optimizer(job.groups, settings)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    run, average, best = Run(), copy_tensors(network) if settings.ema else {}, copy_tensors(network)
    found = continued(folder, network, optimizer, epochs, progress) if resume and folder is not None else None
    run, average, best = found or (run, average, best)
    resumed_at, saved_at = run.epoch if found else None, time.monotonic()
    # A run that begins anew takes the steps of an earlier one of the same identity, so the checkpoint of that one is
    # left until this one is further: whoever forgot to resume, and stops, has lost nothing.
    earlier = None if resume or folder is None else checkpoint.peek(folder)
    ahead = (earlier.epoch, earlier.step) if earlier else (0, 0)

    def save() -> None:
        nonlocal saved_at
        if folder is not None and (run.epoch, run.step_in_epoch) >= ahead:
            own = {"run": vars(run), "average": average, "best": best, "precision": settings.precision}
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoint.save(folder, {**own, **state})
        saved_at = time.monotonic()

    def stopped() -> KeyboardInterrupt:
        behind = (run.epoch, run.step_in_epoch) < ahead
        what = "the earlier run, which was further" if behind else "the fine-tuning from here"
        return KeyboardInterrupt(f"The same command with --resume (resume=True) continues {what}.")

    def after_step() -> None:
        said = f"epoch {run.epoch + 1}/{epochs}  loss {run.loss_sum / run.seen:.3f}"
        # With several labels the accuracy is high whatever is learned.
        said += "" if job.loss == "sigmoid" else f"  accuracy {run.right / run.seen:.3f}"
        update(run.epoch * count + run.seen, said)
        stop = should_stop()
        if stop or time.monotonic() - saved_at >= settings.checkpoint_seconds:
            save()
        if stop:
            raise stopped()

    with (
        checkpoint.stop_between_steps() as should_stop,
        own_random_state(),
        failures_are_explained(settings, folder),
        progress.step("train", epochs * count) as update,
    ):
        while run.epoch < epochs and not (settings.patience and run.since_best >= settings.patience):
            train_epoch(job, settings, optimizer, peaks, run, average, seed, after_step)
            row = finish_epoch(job, settings, run, average, optimizer.param_groups[0]["lr"])
            if run.since_best == 0:
                best = clone(average) if average else copy_tensors(network)
            save()
            progress.epoch(row, epochs)
            if on_epoch is not None:
                on_epoch(row)
            if should_stop():
                raise stopped()
    if run.epoch < epochs:
        progress.note(f"Stopped after epoch {run.epoch}: no better validation for {settings.patience} epochs.")
    return Result(best, tuple(run.history), resumed_at)


def train_epoch(
    job: Job,
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    peaks: list[float],
    run: Run,
    average: Tensors,
    seed: int,
    after_step: Callable[[], None],
) -> None:
    """Take the steps of an epoch that are left.

    Args:
        job: What is trained on what.
        settings: Complete settings, with a precision.
        optimizer: Of the job's groups.
        peaks: Their learning rates at the peak.
        run: Where the run is; is moved on by each step.
        average: The averaged weights, or nothing; are moved on too.
        seed: Of order, dropout and mixing.
        after_step: Called after each.
    """
    job.start_epoch(run.epoch)
    job.network.train()
    batches = batches_of_epoch(len(job.targets), settings.batch_size, seed, run.epoch)
    steps, rest = int(settings.epochs or 1) * len(batches), batches[run.step_in_epoch :]
    began = time.perf_counter()
    for rows, inputs in zip(rest, job.train.batches(rest, run.epoch), strict=True):
        step = run.epoch * len(batches) + run.step_in_epoch
        rate = factor(settings, step, steps, len(batches), run.plateau)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate
        seed_step(seed, step)
        loss, right = take_step(job, settings, optimizer, inputs, rows, run)
        update_average(average, job.network, settings.ema)
        now = time.perf_counter()
        run.add(loss, right, len(rows), now - began)
        began = now
        after_step()


def take_step(
    job: Job,
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    inputs: np.ndarray,
    rows: np.ndarray,
    run: Run,
) -> tuple[float, float]:
    """Take one step and return the mean loss and how many pictures were named right.

    Loss and gradients are checked before the step is taken, so that no weight ever becomes "not a number".

    Raises:
        TrainingError: The loss or a gradient is not a number, or the loss is far above guessing.
    """
    x, y = as_inputs(inputs, job.device), job.targets[torch.from_numpy(rows).to(job.device)]
    mixed_x, mixed_y = mix(x, y, settings)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        logits = job.network(mixed_x).float()
    losses = losses_of(logits, mixed_y, job.loss, settings.label_smoothing)
    check_finite("loss", float(losses.detach().mean()), run.where, settings)
    loss = (losses * weights_of(mixed_y, job.class_weights)).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(learning, settings.clip_norm or math.inf)
    check_finite("gradient", float(norm), run.where, settings)
    optimizer.step()
    return float(loss.detach()), count_right(logits, y, job.loss)


def finish_epoch(
    job: Job, settings: TrainingSettings, run: Run, average: Tensors, learning_rate: float
) -> dict[str, float]:
    """Validate, write the epoch's row into the run, and set the run to the start of the next epoch.

    Raises:
        TrainingError: The validation loss is not a number.
    """
    judged = validate(job, average)
    check_finite("validation loss", judged.unweighted_loss, run.where, settings)
    row = {
        "epoch": run.epoch + 1,
        "loss": run.loss_sum / run.seen,
        "accuracy": run.right / run.seen,
        "val_loss": judged.loss,
        "val_accuracy": judged.accuracy,
        **({"val_mean_average_precision": judged.score} if job.loss == "sigmoid" else {}),
        "learning_rate": learning_rate,
        "seconds": run.seconds,
        "pictures_per_second": run.seen / max(run.seconds, 1e-9),
    }
    # The better score wins; of equal ones, the surer.
    better = (judged.score, -judged.loss) > (run.best_score, -run.best_loss)
    run.since_best = 0 if better else run.since_best + 1
    if better:
        run.best_score, run.best_loss = judged.score, judged.loss
    if run.since_best and run.since_best % PLATEAU_EPOCHS == 0:
        run.plateau *= settings.step_factor
    run.history.append(row)
    run.epoch += 1
    run.step_in_epoch, run.seen = 0, 0
    run.loss_sum = run.right = run.seconds = 0.0
    return row


@dataclass(frozen=True)
class Judged:
    """Means over the validation pictures.

    Attributes:
        loss: Weighted by class as in training.
        unweighted_loss: With every picture alike.
        accuracy: Share that is named right.
        score: What the best epoch is chosen by: the accuracy, or with several labels the mean average precision.
    """

    loss: float
    unweighted_loss: float
    accuracy: float
    score: float


def validate(job: Job, average: Tensors) -> Judged:
    """Judge the network on the validation pictures, with the averaged weights where they are kept."""
    kept = copy_tensors(job.network) if average else {}
    if average:
        job.network.load_state_dict(average)
    parts = [(rows, logits) for rows, logits in validation_logits(job)]
    if average:
        job.network.load_state_dict(kept)
    y = job.validation_targets[torch.cat([rows for rows, _ in parts])]
    logits = torch.cat([logits for _, logits in parts])
    # On the processor, since Apple's GPUs have no float64.
    losses, weights = (x.cpu().double() for x in (losses_of(logits, y, job.loss), weights_of(y, job.class_weights)))
    score = accuracy = count_right(logits, y, job.loss) / len(y)
    if job.loss == "sigmoid":
        score = mean_average_precision(y.cpu().numpy() > 0.5, logits.cpu().numpy())
    return Judged(float((losses * weights).sum() / weights.sum()), float(losses.mean()), accuracy, score)


def validation_logits(job: Job) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield rows of the validation pictures and their logits `(rows, c)`, float32; the network is set to `eval()`."""
    job.network.eval()
    count = len(job.validation_targets)
    batches = [np.arange(i, min(i + VALIDATION_BATCH, count)) for i in range(0, count, VALIDATION_BATCH)]
    for rows, inputs in zip(batches, job.validation.batches(batches, 0), strict=True):
        with torch.no_grad():
            logits = job.network(as_inputs(inputs, job.device)).float()
        yield torch.from_numpy(rows).to(job.device), logits


def continued(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, progress: Progress
) -> tuple[Run, Tensors, Tensors] | None:
    """Put the checkpoint of a run into network and optimizer; return the run, the averaged and the best weights.

    Where there is no checkpoint that is said, and None is returned.

    Raises:
        CacheError: It is damaged or belongs to another network.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        progress.note("There was no checkpoint of these pictures and settings to resume: training began anew.")
        return None
    try:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        own = network.state_dict()
        average = {name: tensor.to(own[name].device) for name, tensor in saved["average"].items()}
        run, best = Run(**saved["run"]), saved["best"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CacheError(
            f"the checkpoint in {folder} does not fit this network: delete it, or begin anew without resume."
        ) from error
    where = f"in epoch {run.epoch + 1} of {epochs}, after {run.step_in_epoch} of its steps"
    progress.note(f"Resumed {where if run.epoch < epochs else 'after the last epoch'}.")
    return run, average, best


def batches_of_epoch(count: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the rows of each step of an epoch, shuffled; a single picture that is left over joins the step before.

    One picture alone has no batch statistics.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return np.split(order, starts[1:])
