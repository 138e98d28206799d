"""The training loop, written out from top to bottom: `train`, a step, the end of an epoch.

All randomness of a step comes from the seed and the number of the step, and all randomness of an epoch from the seed
and the number of the epoch. A checkpoint therefore needs no state of any generator, and a run that is resumed takes
exactly the steps that it would have taken: on a processor with as many threads its weights are bitwise equal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart.core.errors import CacheError
from headstart.core.progress import OnEpoch, Progress
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.failures import check_finite, failures_are_explained
from headstart.learn.finetune.loss import losses_of, right_of, weights_of
from headstart.learn.finetune.mixing import mix
from headstart.learn.finetune.optimizer import make_optimizer
from headstart.learn.finetune.schedule import average_decay, factor
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.state import Job, Run, Training
from headstart.learn.finetune.tensors import (
    Tensors,
    as_inputs,
    clone,
    copy_tensors,
    own_random_state,
    seed_step,
    update_average,
)
from headstart.learn.finetune.validation import validate

PLATEAU_EPOCHS = 2


@dataclass
class Keeper:
    """Keeps the checkpoint of a run.

    A run that begins anew takes the steps of an earlier one of the same identity, so the checkpoint of that one is left
    until this one is further: whoever forgot to resume, and stops, has lost nothing.

    Attributes:
        folder: Where checkpoints go; None where none are written.
        ahead: The epoch and step that an earlier run had reached.
        saved_at: When the last one was written, by the monotonic clock.
    """

    folder: Path | None
    ahead: tuple[int, int]
    saved_at: float = field(default_factory=time.monotonic)

    def is_due(self, seconds: float) -> bool:
        """Whether so many seconds have passed since the last checkpoint."""
        return time.monotonic() - self.saved_at >= seconds

    def save(self, training: Training) -> None:
        """Write a checkpoint, unless an earlier run was further.

        Raises:
            CacheError: It cannot be written.
        """
        if self.folder is not None and training.run.reached >= self.ahead:
            checkpoint.save(self.folder, training.state())
        self.saved_at = time.monotonic()

    def stopped(self, run: Run) -> KeyboardInterrupt:
        """Return what is raised where the user has stopped the run, which says what can be continued."""
        behind = run.reached < self.ahead
        what = "the earlier run, which was further" if behind else "the fine-tuning from here"
        return KeyboardInterrupt(f"The same command with --resume (resume=True) continues {what}.")


@dataclass(frozen=True, eq=False)
class Result:
    """What has come of a training.

    Attributes:
        best, best_epoch: The best weights by validation, and their epoch, from 1.
        history: One row an epoch.
    """

    best: Tensors
    best_epoch: int
    history: tuple[dict[str, float], ...]


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
    training = begin(job, settings, seed)
    if resume and folder is not None:
        continue_from(folder, training, progress)
    earlier = None if resume or folder is None else checkpoint.peek(folder)
    keeper = Keeper(folder, (earlier.epoch, earlier.step) if earlier else (0, 0))
    run, epochs, count = training.run, training.epochs, len(job.targets)
    with (
        checkpoint.stop_between_steps() as should_stop,
        own_random_state(),
        failures_are_explained(settings, folder),
        progress.step("train", epochs * count) as update,
    ):
        while run.epoch < epochs:
            job.start_epoch(run.epoch)
            job.network.train()
            began = time.perf_counter()
            for rows, inputs in batches_left(training):
                take_step(training, rows, inputs)
                now = time.perf_counter()
                run.seconds, began = run.seconds + now - began, now
                update(run.epoch * count + run.seen, so_far(training))
                stop = should_stop()
                if stop or keeper.is_due(settings.checkpoint_seconds):
                    keeper.save(training)
                if stop:
                    raise keeper.stopped(run)
            row = finish_epoch(training)
            keeper.save(training)
            progress.epoch(row, epochs)
            if on_epoch is not None:
                on_epoch(row)
            if run.epoch > row["epoch"]:
                progress.note(out_of_patience(training))
            if should_stop():
                raise keeper.stopped(run)
    return Result(training.best, run.best_epoch, tuple(run.history))


def begin(job: Job, settings: TrainingSettings, seed: int) -> Training:
    """Return a training that has taken no step yet."""
    optimizer = make_optimizer(job.groups, settings)
    return Training(
        job,
        settings,
        seed,
        steps_per_epoch=len(batches_of_epoch(len(job.targets), settings.batch_size, seed, 0)),
        optimizer=optimizer,
        peaks=[float(group["lr"]) for group in optimizer.param_groups],
        run=Run(),
        average=copy_tensors(job.network) if settings.ema else {},
        best=copy_tensors(job.network),
    )


def continue_from(folder: Path, training: Training, progress: Progress) -> None:
    """Put a run's checkpoint, if there is one, into a training that has taken no step yet, and tell it.

    Raises:
        CacheError: It is damaged or belongs to another network.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        progress.note("There was no checkpoint of these pictures and settings to resume: training began anew.")
        return
    network = training.job.network
    try:
        network.load_state_dict(saved["network"])
        training.optimizer.load_state_dict(saved["optimizer"])
        own = network.state_dict()
        training.average = {name: tensor.to(own[name].device) for name, tensor in saved["average"].items()}
        training.run, training.best = Run(**saved["run"]), saved["best"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CacheError(
            f"the checkpoint in {folder} does not fit this network: delete it, or begin anew without resume."
        ) from error
    run, epochs = training.run, training.epochs
    where = f"in epoch {run.epoch + 1} of {epochs}, after {run.step_in_epoch} of its steps"
    progress.note(f"Resumed {where if run.epoch < epochs else 'after the last epoch'}.")


def batches_left(training: Training) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return the steps that are left of the epoch: the rows of each, and their inputs."""
    job, run = training.job, training.run
    batches = batches_of_epoch(len(job.targets), training.settings.batch_size, training.seed, run.epoch)
    left = batches[run.step_in_epoch :]
    return zip(left, job.train.batches(left, run.epoch), strict=True)


def batches_of_epoch(count: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the rows of each step of an epoch, shuffled; a single picture that is left over joins the step before.

    One picture alone has no batch statistics.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return np.split(order, starts[1:])


def take_step(training: Training, rows: np.ndarray, inputs: np.ndarray) -> None:
    """Take the next step: set rates and seed, compute the loss, follow its gradient, average the weights, count.

    Loss and gradients are checked before the weights are changed, so that no weight ever becomes "not a number".

    Raises:
        TrainingError: The loss or a gradient is not a number, or the loss is far above guessing.
    """
    job, settings, run, optimizer = training.job, training.settings, training.run, training.optimizer
    phase, per_epoch = training.phase, training.steps_per_epoch
    step = run.epoch * per_epoch + run.step_in_epoch
    rate = factor(settings, step - phase.start * per_epoch, len(phase) * per_epoch, per_epoch, run.plateau)
    for group, peak in zip(optimizer.param_groups, training.peaks, strict=True):
        group["lr"] = peak * rate

    seed_step(training.seed, step)
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
    update_average(training.average, job.network, average_decay(settings.ema, step))
    run.add(float(loss.detach()), float(right_of(logits, y, job.loss).sum()), len(rows))


def so_far(training: Training) -> str:
    """Return what is said of the epoch while it runs."""
    run = training.run
    said = f"epoch {run.epoch + 1}/{training.epochs}  loss {run.loss_sum / run.seen:.3f}"
    # With several labels the accuracy is high whatever is learned.
    return said if training.job.loss == "sigmoid" else f"{said}  accuracy {run.right / run.seen:.3f}"


def out_of_patience(training: Training) -> str:
    """Return what is said where a phase has ended before its time."""
    run, patience = training.run, training.settings.patience
    what = f"Went on to epoch {run.epoch + 1}" if run.epoch < training.epochs else "Stopped"
    return f"{what} after epoch {run.history[-1]['epoch']}: no better validation for {patience} epochs."


def finish_epoch(training: Training) -> dict[str, float]:
    """Validate, keep the weights if they are the best, and go to the next epoch; return the row of this one.

    Where patience is at its end, the next epoch is the first of the next phase, and of the last phase none.

    Raises:
        TrainingError: The validation loss is not a number.
    """
    job, settings, run = training.job, training.settings, training.run
    judged = validate(job, training.average, settings.batch_size)
    check_finite("validation loss", judged.unweighted_loss, run.where, settings)
    row = {
        "epoch": run.epoch + 1,
        "loss": run.loss_sum / run.seen,
        "accuracy": run.right / run.seen,
        "val_loss": judged.loss,
        "val_accuracy": judged.accuracy,
        f"val_{judged.measure}": judged.score,
        "learning_rate": training.optimizer.param_groups[0]["lr"],
        "seconds": run.seconds,
        "pictures_per_second": run.seen / max(run.seconds, 1e-9),
    }
    run.history.append(row)
    if judged.rank > run.best:
        run.best, run.best_epoch = judged.rank, run.epoch + 1
        training.best = clone(training.average) or copy_tensors(job.network)
    run.since_best = 0 if judged.rank > run.phase_best else run.since_best + 1
    run.phase_best = max(run.phase_best, judged.rank)
    if run.since_best and run.since_best % PLATEAU_EPOCHS == 0:
        run.plateau *= settings.step_factor
    given_up = settings.patience and run.since_best >= settings.patience
    end = training.phase.stop
    run.go_to(end if given_up else run.epoch + 1)
    if run.epoch == end:
        run.begin_phase()
    return row
