"""Fine-tuning from the head outwards: fit the head on cached features, then train on from there (LP-FT).

Starting from a fitted head keeps the features from being distorted by a random one (Kumar et al. 2022,
arXiv:2202.10054). The tuned network is kept only where validation prefers it to the frozen start.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.core.errors import CacheError, HeadstartError, TrainingError
from headstart.core.progress import OnEpoch, Progress
from headstart.learn import runs
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.estimate import seconds_needed
from headstart.learn.finetune.failures import failures_are_explained, without_checkpoint
from headstart.learn.finetune.job import make_job, put_back
from headstart.learn.finetune.loop import train
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.source import choose_views
from headstart.learn.finetune.task import Course, Task, identity, make_course
from headstart.learn.methods.choice import Tuned, choose, judge
from headstart.learn.methods.frozen import fit_frozen
from headstart.learn.setup import Setup
from headstart.learn.trained import Trained
from headstart.networks import faster
from headstart.networks.freezing import hash_tensors


@dataclass(frozen=True)
class Limits:
    """What fine-tuning may cost, and what follows where it fails.

    Attributes:
        budget: Seconds that training may take by estimate, else the frozen backbone is kept; None is no limit.
        auto: Whether fine-tuning that fails, of itself, for a checkpoint that cannot be written or for what nobody
            foresaw, is a note and the frozen backbone kept, instead of an error; not where a checkpoint is resumed,
            which stays as it is.
        views: Of each picture in training; None lets the cut and the epochs choose where there is augmentation.
    """

    budget: float | None = None
    auto: bool = False
    views: int | None = None


def fit_finetune(
    setup: Setup,
    training: TrainingSettings,
    *,
    limits: Limits | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Fit the head on the frozen backbone, then train head and upper stages together.

    Args:
        setup: What is learned from and built on; the upper stages of its backbone are changed, unless the frozen start
            is kept.
        training: Settings of the loop; what is None follows the size of the data.
        limits: None sets none.
        resume: Whether to continue from the checkpoint of an earlier run with the same data and settings.
        progress: Is shown the steps, and told what was gained.
        on_epoch: Called with each epoch's row; `stage` is `head` in those of the head that training begins with, then
            `finetune`.

    Raises:
        TrainingError: The loss explodes or memory is short.
        SettingError: `unfreeze` does not suit the backbone.
        CacheError: The checkpoint cannot be read or written.
    """
    limits, progress = limits or Limits(), progress or Progress()
    course = make_course(setup.backbone, training, setup.features, len(setup.prepared.split.train))
    start = fit_frozen(setup, progress, on_epoch, stage="head")
    if start.validation is None:
        progress.note("There are too few pictures to validate fine-tuning: the frozen backbone is kept.", report=True)
        return start
    task = Task(setup, start, _below_the_cut(course, start, limits.views, progress))
    told = None if on_epoch is None else _Told(on_epoch)
    folder = runs.folder_of(identity(task))
    begun, earlier = resume and checkpoint.exists(folder), checkpoint.written(folder)
    try:
        if limits.budget is not None and not begun and _is_too_long(task, limits.budget, limits.auto, progress):
            return start
        if not resume:
            _tell_of_unfinished(folder, task.course.epochs, progress)
        with runs.held(folder, _about(task)):
            return finetune(task, folder, resume, progress, told)
    except Exception as error:
        if begun or not (limits.auto and _may_be_left_out(error)) or (told is not None and error is told.raised):
            raise
        why = _why(error)
        progress.note(f"Fine-tuning failed, and the frozen backbone is kept: {why}", report=True)
        # A checkpoint of its own goes with the failure, or the next run would offer to resume it. That of an earlier
        # run, which was further, stays: memory or disk may suffice another time.
        own = checkpoint.written(folder) != earlier
        return replace(start, run_folder=folder if own else None, failed=why)


def finetune(task: Task, folder: Path, resume: bool, progress: Progress, on_epoch: OnEpoch | None = None) -> Trained:
    """Train on from the fitted head, prove that what is frozen did not move, and keep what validation prefers.

    Args:
        task: What is to be fine-tuned; its backbone is as it was where this fails, or the frozen start is kept.
        folder: Where checkpoints go.
        resume: Whether to continue from the checkpoint there.
        progress: Is shown the steps, and told what was gained.
        on_epoch: Called with each epoch's row.

    Raises:
        TrainingError: The loss explodes or memory is short.
        CacheError: The checkpoint cannot be read or written.
    """
    runs.discard_old(keep=folder)
    if resume and (found := checkpoint.peek(folder)) and found.precision:
        # What a trial found may have been cleared from the cache meanwhile, and another may find otherwise.
        settings = replace(task.course.settings, precision=found.precision)
        task = replace(task, course=replace(task.course, settings=settings))
    before = copy.deepcopy(task.setup.backbone.network).cpu()
    try:
        tuned = _train_on(task, folder, resume, progress, on_epoch)
        trained = choose(task, before, tuned, progress)
    except BaseException:
        put_back(task.setup.backbone, before)
        raise
    if not trained.tuned:
        put_back(task.setup.backbone, before)
    return replace(trained, run_folder=folder)


def _train_on(task: Task, folder: Path, resume: bool, progress: Progress, on_epoch: OnEpoch | None) -> Tuned:
    """Train the upper stages and a copy of the head, and judge them by their best epoch; see `finetune`."""
    frozen = hash_tensors(task.frozen())
    with failures_are_explained(task.course.settings, folder):
        job, settings = make_job(task, progress)
    result = train(
        job, settings, seed=task.setup.seed, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch
    )
    faster.restore(job.network)
    job.network.load_state_dict(result.best)
    if hash_tensors(task.frozen()) != frozen:
        raise TrainingError("layers that should stay frozen have changed. Please report this.")
    with failures_are_explained(settings, folder):
        said = judge(job, task)
    job.network.cpu()
    task.setup.backbone.network.cpu()
    head = job.network.get_submodule("1")
    return Tuned(head, said, settings, result.history, result.best_epoch, len(task.frozen()), frozen[:12])


def _below_the_cut(course: Course, start: Trained, views: int | None, progress: Progress) -> Course:
    """Return the course with the views and the precision of what lies below the cut.

    The head may have been fitted on other views. Where the start was computed in float32, bfloat16 is not there or was
    refused for the whole network (never because float32 happened to be in the cache): it is not tried again.
    """
    features = replace(course.features, views=views or 1)
    if start.features["precision"] == "float32":
        features = replace(features, precision="float32")
    return replace(course, features=choose_views(features, course.epochs, pixels=course.pixels, progress=progress))


@dataclass
class _Told:
    """Calls the user's `on_epoch` with rows of fine-tuning, and keeps what it raises: no reason to go on without."""

    on_epoch: OnEpoch
    raised: Exception | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        try:
            self.on_epoch({**row, "stage": "finetune"})
        except Exception as error:
            self.raised = error
            raise


def _may_be_left_out(error: Exception) -> bool:
    """Whether a model without fine-tuning is an answer; what was given, and became of the pictures, the user mends."""
    return isinstance(error, (TrainingError, CacheError)) or not isinstance(error, HeadstartError)


def _why(error: Exception) -> str:
    """Return why fine-tuning failed; of what nobody foresaw its kind too, and how to report it."""
    if isinstance(error, HeadstartError):
        return without_checkpoint(error)
    text = next(iter(str(error).strip().splitlines()), "without a word")[:200].rstrip(". ")
    return (
        f"{type(error).__name__}: {text}. Nobody foresaw that. Please report it with all that the same fit says with "
        "--method finetune, which does not catch it."
    )


def _about(task: Task) -> dict[str, str | int]:
    """Return what `headstart cache` tells of a run."""
    data = Path(task.setup.prepared.dataset.source).name
    cut, epochs = task.course.layers.cut, task.course.epochs
    return {"data": data, "backbone": task.setup.backbone.name, "cut": cut, "epochs": epochs}


def _tell_of_unfinished(folder: Path, epochs: int, progress: Progress) -> None:
    """Say that there is a checkpoint which nobody has asked to resume; the loop leaves it until it is further."""
    if checkpoint.exists(folder):
        found = checkpoint.peek(folder)
        epoch = found.epoch if found else 0
        where = f"in epoch {epoch + 1} of {epochs}" if epoch < epochs else "after the last epoch"
        progress.note(
            f"An earlier run of the same pictures and settings ended {where}, unfinished: --resume (resume=True) "
            "continues it. This run begins anew; the earlier checkpoint is kept until this run is further."
        )


def _is_too_long(task: Task, budget: float, auto: bool, progress: Progress) -> bool:
    """Whether training would, by estimate, take more seconds than the budget; say so."""
    setup, split = task.setup, task.setup.prepared.split
    with failures_are_explained(task.course.settings):
        needed = seconds_needed(
            setup.backbone,
            task.start.start,
            task.course,
            setup.prepared.pictures(split.train),
            len(split.validation),
            budget,
        )
    if needed > budget:
        advice = "choose method finetune without --budget" if auto else "give none"
        progress.note(
            f"Fine-tuning would take about {needed:.0f} s, more than the budget of {budget:.0f} s: the frozen "
            f"backbone is kept. Raise the budget, or {advice}.",
            report=True,
        )
    return needed > budget
