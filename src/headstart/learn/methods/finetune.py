"""Fine-tuning from the head outwards: fit the head on cached features, then train on from there (LP-FT).

Starting from a fitted head keeps the features from being distorted by a random one (Kumar et al. 2022,
arXiv:2202.10054). The tuned network is kept only where validation prefers it to the frozen start.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from headstart.core.errors import CacheError, SettingError, TrainingError
from headstart.core.labels import paired_bootstrap
from headstart.core.metrics import Evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.core.significance import mcnemar
from headstart.learn import runs
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune import checkpoint, precision
from headstart.learn.finetune.estimate import seconds_needed
from headstart.learn.finetune.failures import failures_are_explained, without_checkpoint
from headstart.learn.finetune.loop import Job, OnEpoch, Result, train, validation_logits
from headstart.learn.finetune.loss import scaled_weights
from headstart.learn.finetune.mixing import has_rectangles
from headstart.learn.finetune.moved import distances
from headstart.learn.finetune.optimizer import parameter_groups
from headstart.learn.finetune.settings import TrainingSettings, complete
from headstart.learn.finetune.source import Source, choose_views, open_sources
from headstart.learn.finetune.task import Task, identity, network_identity
from headstart.learn.finetune.tensors import as_inputs
from headstart.learn.finetune.unfreezing import apply_phase, plan
from headstart.learn.heads import ClassWeight, Head
from headstart.learn.methods.frozen import fit_frozen
from headstart.learn.prepare import Prepared
from headstart.learn.trained import Trained
from headstart.networks import Backbone, faster, freeze, suffix
from headstart.networks.export import ACTIVATIONS, Classifier
from headstart.networks.freezing import hash_tensors


def fit_finetune(
    prepared: Prepared,
    backbone: Backbone,
    head: Head,
    how: FeatureSettings,
    training: TrainingSettings,
    *,
    class_weight: ClassWeight = None,
    seed: int = 0,
    budget: float | None = None,
    auto: bool = False,
    views: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Fit the head on the frozen backbone, then train head and upper stages together.

    Args:
        prepared: The pictures and their split.
        backbone: Its upper stages are changed, unless the frozen start is kept.
        head: The kind of head and its settings.
        how: Views and augmentation of the frozen start and of training; device and precision of what is frozen.
        training: Settings of the loop; what is None follows the size of the data.
        class_weight: None, `balanced`, or a weight for each class index.
        seed: Of everything that is drawn.
        budget: Seconds that training may take by estimate, else the frozen backbone is kept; None is no limit.
        auto: Whether fine-tuning that fails, of itself or for a checkpoint that cannot be written, is a note and the
            frozen backbone kept, instead of an error; not where a checkpoint is resumed, which stays as it is.
        views: In training; None lets the cut and the epochs choose where there is augmentation.
        resume: Whether to continue from the checkpoint of an earlier run with the same data and settings.
        progress: Is shown the steps, and told what was gained.
        on_epoch: Called with each epoch's row.

    Raises:
        TrainingError: The loss explodes or memory is short.
        SettingError: `unfreeze` does not suit the backbone.
        CacheError: The checkpoint cannot be read or written.
    """
    progress = progress or Progress()
    settings = complete(training, len(prepared.split.train), backbone.stages)
    layers = plan(backbone, settings.unfreeze if settings.unfreeze is not None else "all")
    settings = replace(settings, epochs=layers.epochs or settings.epochs)
    start = fit_frozen(prepared, backbone, head, how, class_weight=class_weight, seed=seed, progress=progress)
    if start.validation is None:
        progress.note("There are too few pictures to validate fine-tuning: the frozen backbone is kept.", report=True)
        return start
    start_views = how.views
    # bfloat16 is not there, or was refused for the whole network; never because float32 happened to be in the cache.
    if start.features["precision"] == "float32":
        how = replace(how, precision="float32")
    how = replace(how, views=views or 1)
    how = choose_views(how, int(settings.epochs or 1), pixels=layers.cut == backbone.stages[0], progress=progress)
    device = torch.device(choose_device(how.device))
    task = Task(prepared, backbone, layers, head, start, start_views, how, settings, class_weight, seed, device)
    folder = runs.folder_of(identity(task))
    about = {"data": Path(prepared.dataset.source).name, "backbone": backbone.name, "cut": layers.cut}
    begun, earlier = resume and checkpoint.exists(folder), checkpoint.written(folder)
    try:
        if budget is not None and not begun and _is_too_long(task, budget, auto, progress):
            return start
        if not resume:
            _tell_of_unfinished(folder, int(settings.epochs or 1), progress)
        with runs.held(folder, {**about, "epochs": settings.epochs}):
            return finetune(task, folder, resume, progress, on_epoch)
    except (TrainingError, CacheError) as error:
        if not auto or begun:
            raise
        why = without_checkpoint(error)
        progress.note(f"Fine-tuning failed, and the frozen backbone is kept: {why}", report=True)
        # A checkpoint of its own goes with the failure, or the next run would offer to resume it. That of an earlier
        # run, which was further, stays: memory or disk may suffice another time.
        own = checkpoint.written(folder) != earlier
        return replace(start, run_folder=folder if own else None, failed=why)


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
    with failures_are_explained(task.settings):
        needed = seconds_needed(
            task.backbone,
            task.start.start,
            task.layers,
            task.settings,
            task.how,
            task.pictures(task.prepared.split.train),
            task.device,
        )
    if needed > budget:
        advice = "choose method finetune without --budget" if auto else "give none"
        progress.note(
            f"Fine-tuning would take about {needed:.0f} s, more than the budget of {budget:.0f} s: the frozen "
            f"backbone is kept. Raise the budget, or {advice}.",
            report=True,
        )
    return needed > budget


def finetune(task: Task, folder: Path, resume: bool, progress: Progress, on_epoch: OnEpoch | None = None) -> Trained:
    """Train on from the fitted head, prove that what is frozen did not move, and keep what validation prefers.

    Args:
        task: What is to be fine-tuned; its backbone is as it was where this fails.
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
        task = replace(task, settings=replace(task.settings, precision=found.precision))
    before = copy.deepcopy(task.backbone.network).cpu()
    frozen = hash_tensors(task.frozen())
    try:
        with failures_are_explained(task.settings, folder):
            job, settings = make_job(task, progress)
        result = train(
            job, settings, seed=task.seed, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch
        )
        faster.restore(job.network)
        job.network.load_state_dict(result.best)
        if hash_tensors(task.frozen()) != frozen:
            raise TrainingError("layers that should stay frozen have changed. Please report this.")
        with failures_are_explained(settings, folder):
            tuned, said = judge(job, task)
    except BaseException:
        put_back(task.backbone, before)
        raise
    job.network.cpu()
    task.backbone.network.cpu()
    trained = choose(task, before, job.network, settings, result, tuned, said, progress)
    proof = {"frozen_tensors": len(task.frozen()), "frozen_hash": frozen[:12]}
    return replace(trained, run_folder=folder, gain={**(trained.gain or {}), **proof})


def put_back(backbone: Backbone, before: nn.Module) -> None:
    """Give a backbone's network the weights of a copy again, frozen, on the processor."""
    faster.restore(backbone.network)
    freeze(backbone.network.cpu()).load_state_dict(before.state_dict())


def make_job(task: Task, progress: Progress) -> tuple[Job, TrainingSettings]:
    """Return the job of the loop, and the settings with a precision.

    Raises:
        SettingError: There is nothing that could learn.
    """
    dataset, split = task.prepared.dataset, task.prepared.split
    backbone, layers, settings, device = task.backbone, task.layers, task.settings, task.device
    training, validation = open_sources(
        task.pictures(split.train),
        task.pictures(split.validation),
        backbone,
        task.how,
        layers.cut,
        progress,
    )
    upper = backbone.network if training.kind == "pixels" else suffix(backbone, layers.cut)
    top = copy.deepcopy(task.start.start).requires_grad_(True)
    network = nn.Sequential(upper, top).to(device).to(memory_format=torch.channels_last)

    def start_epoch(epoch: int) -> None:
        apply_phase(backbone, layers.phase(epoch), batch_norm=settings.batch_norm)

    def one_hot(rows: np.ndarray) -> torch.Tensor:
        targets = torch.from_numpy(dataset.targets[rows])
        return (targets if dataset.several_labels else functional.one_hot(targets, classes)).float().to(device)

    classes = len(dataset.classes)
    weights = scaled_weights(task.class_weight, dataset.targets[split.train], classes)
    job = Job(
        network=network,
        groups=parameter_groups(backbone, layers, top, settings),
        train=training,
        validation=validation,
        targets=one_hot(split.train),
        validation_targets=one_hot(split.validation),
        loss=dataset.activation,
        class_weights=None if weights is None else weights.to(device),
        start_epoch=start_epoch,
        device=device,
    )
    if not any(group["params"] for group in job.groups):
        raise SettingError("unfreeze leaves nothing to learn: this head has no parameters. Unfreeze a stage.")
    start_epoch(0)
    sample = _first_batch(training, min(len(split.train), settings.batch_size))
    if settings.cutmix and not has_rectangles(sample.ndim):
        progress.note(f"CutMix needs maps, and the inputs of {layers.cut} are tokens: it is off. mixup works there.")
    faster.speed_up(network, as_inputs(sample[:1], device))
    name = runs.name_of({**network_identity(task), "batch": sample.shape})
    return job, replace(settings, precision=precision.choose(settings.precision, network, sample, device, name))


def judge(job: Job, task: Task) -> tuple[Evaluation, Outcomes]:
    """Return the figures of the trained network on validation, and what it said of each picture."""
    dataset, rows = task.prepared.dataset, task.prepared.split.validation
    logits = torch.cat([part for _, part in validation_logits(job)])
    named = ACTIVATIONS[dataset.activation](logits).cpu().numpy()
    paths, units = tuple(dataset.paths[row] for row in rows), task.prepared.split.units[rows]
    said = Outcomes(dataset.classes, paths, dataset.targets[rows], named, units=units)
    return said.evaluate(task.seed), said


def choose(
    task: Task,
    before: nn.Module,
    network: nn.Module,
    settings: TrainingSettings,
    result: Result,
    tuned: Evaluation,
    said: Outcomes,
    progress: Progress,
) -> Trained:
    """Keep the tuned network where validation prefers it, else the frozen start; say what was gained.

    Args:
        task: What was fine-tuned; gets its backbone back as it was where the frozen start is kept.
        before: The backbone's network as it was.
        network: The trained part of the backbone, and the head.
        settings: As training used them.
        result: Of the loop.
        tuned: Figures of the trained network on validation.
        said: What it said of the validation pictures.
        progress: Is told.
    """
    start, backbone = task.start, task.backbone
    assert start.validation is not None  # `fit_finetune` has made sure
    assert start.held_out is not None
    old, new = start.validation.figures, tuned.figures
    was, now = old[tuned.headline].value, new[tuned.headline].value
    test, p = _paired_test(start.held_out, said, task.seed)
    kept = is_better(tuned, start.validation)
    gain = {
        "figure": tuned.headline,
        "frozen": was,
        "finetuned": now,
        "p": p,
        "n": tuned.n,
        "kept": kept,
        "precision": settings.precision,
        "epochs": len(result.history),
    }
    verdict = "a real difference" if p < 0.05 else "chance alone can do that"
    # That helps the tuned network a little: p is the smaller for it.
    verdict += "; the epoch was chosen on these pictures" if len(result.history) > 1 else ""
    progress.note(
        f"Fine-tuning: validation {tuned.headline.replace('_', ' ')} {was:.3f} -> {now:.3f} on {tuned.n:,} pictures "
        f"({test} p = {p:.2g}: {verdict}); the {'fine-tuned' if kept else 'frozen'} backbone is kept."
    )
    history = (*_of_stage("head", start.history), *_of_stage("finetune", result.history))
    if not kept:
        put_back(backbone, before)
        return replace(start, history=history, gain=gain)
    head = network.get_submodule("1")
    return replace(
        start,
        network=Classifier(backbone.network, head, activation=start.network.activation),
        chosen={**start.chosen, **asdict(settings), "cut": task.layers.cut},
        validation=tuned,
        held_out=said,
        crossed=None,
        history=history,
        moved=tuple(distances(before, start.start, backbone, head)),
        gain=gain,
        graph=None,  # it is that of the backbone as it was
    )


def _paired_test(frozen: Outcomes, tuned: Outcomes, seed: int) -> tuple[str, float]:
    """Return the name and the p of the test that suits what was said of the same validation pictures."""
    if tuned.several_labels:
        return "bootstrap", paired_bootstrap(
            tuned.targets, frozen.probabilities, tuned.probabilities, seed, tuned.units
        )[1]
    return "McNemar", mcnemar(frozen.right, tuned.right, tuned.units)[1]


def is_better(new: Evaluation, old: Evaluation) -> bool:
    """Whether more pictures are named right, or as many more surely; of several labels by their average precision."""
    one, two = ((e.figures[e.headline].value, -e.figures["log_loss"].value) for e in (new, old))
    return one > two


def _of_stage(stage: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a history with what was trained in them, `head` or `finetune`; each counts its own epochs."""
    return [{"epoch": row["epoch"], "stage": stage, **row} for row in rows]


def _first_batch(source: Source, count: int) -> np.ndarray:
    return next(iter(source.batches([np.arange(count)], 0)))
