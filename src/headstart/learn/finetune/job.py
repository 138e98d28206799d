"""From what is to be fine-tuned to what the loop trains, and the backbone back as it was."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from headstart.core.errors import SettingError
from headstart.core.progress import Progress
from headstart.learn import runs
from headstart.learn.finetune import precision
from headstart.learn.finetune.loss import picture_weights, scaled_weights
from headstart.learn.finetune.mixing import has_rectangles
from headstart.learn.finetune.optimizer import parameter_groups
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.source import Source, open_sources
from headstart.learn.finetune.state import Job
from headstart.learn.finetune.task import Task, network_identity
from headstart.learn.finetune.tensors import as_inputs
from headstart.learn.finetune.unfreezing import apply_phase
from headstart.networks import Backbone, faster, freeze, suffix


def make_job(task: Task, progress: Progress) -> tuple[Job, TrainingSettings]:
    """Return the job of the loop, and the settings with a precision.

    Args:
        task: Its backbone is moved to the device, and its upper stages are unfrozen.
        progress: Is shown the extraction of what lies below the cut, and told what is notable.

    Raises:
        SettingError: There is nothing that could learn.
    """
    setup, course = task.setup, task.course
    backbone, settings, device = setup.backbone, course.settings, course.device
    dataset, split = setup.prepared.dataset, setup.prepared.split
    seen = setup.prepared.pictures(split.train), setup.prepared.pictures(split.validation)
    training, validation = open_sources(*seen, backbone, course.features, course.layers.cut, progress)
    upper = backbone.network if training.kind == "pixels" else suffix(backbone, course.layers.cut)
    top = copy.deepcopy(task.start.start).requires_grad_(True)
    network = nn.Sequential(upper, top).to(device).to(memory_format=torch.channels_last)

    def start_epoch(epoch: int) -> None:
        apply_phase(backbone, course.layers.phase(epoch), batch_norm=settings.batch_norm)

    def one_hot(rows: np.ndarray) -> torch.Tensor:
        targets = torch.from_numpy(dataset.targets[rows])
        return (targets if dataset.several_labels else functional.one_hot(targets, classes)).float().to(device)

    classes = len(dataset.classes)
    weights = scaled_weights(setup.class_weight, dataset.targets[split.train], classes)
    job = Job(
        network=network,
        groups=parameter_groups(backbone, course.layers, top, settings),
        train=training,
        validation=validation,
        targets=one_hot(split.train),
        validation_targets=one_hot(split.validation),
        loss=dataset.activation,
        class_weights=None if weights is None else weights.to(device),
        start_epoch=start_epoch,
        device=device,
        phases=tuple(phase.epoch for phase in course.layers.phases),
        validation_weights=picture_weights(setup.class_weight, dataset.targets[split.validation], classes),
    )
    if not any(group["params"] for group in job.groups):
        raise SettingError("unfreeze leaves nothing to learn: this head has no parameters. Unfreeze a stage.")
    start_epoch(0)
    return job, _with_precision(task, job, progress)


def put_back(backbone: Backbone, before: nn.Module) -> None:
    """Give a backbone's network the weights of a copy again, frozen, on the processor.

    They take the place of the tensors that are there, which a device that has failed may not let anyone touch.

    Args:
        backbone: Is changed in place.
        before: The copy, on the processor; its tensors are the network's from then on.
    """
    faster.restore(backbone.network)
    backbone.network.load_state_dict(before.state_dict(), assign=True)
    freeze(backbone.network.cpu())


def _with_precision(task: Task, job: Job, progress: Progress) -> TrainingSettings:
    """Make the job's network fast, and return the settings with the precision in which a step then takes less time."""
    course = task.course
    sample = _first_batch(job.train, min(len(job.targets), course.settings.batch_size))
    if course.settings.cutmix and not has_rectangles(sample.ndim):
        cut = course.layers.cut
        progress.note(f"CutMix needs maps, and the inputs of {cut} are tokens: it is off. mixup works there.")
    faster.speed_up(job.network, as_inputs(sample[:1], job.device))
    name = runs.name_of({**network_identity(task), "batch": sample.shape})
    chosen = precision.choose(course.settings.precision, job.network, sample, job.device, name)
    return replace(course.settings, precision=chosen)


def _first_batch(source: Source, count: int) -> np.ndarray:
    return next(iter(source.batches([np.arange(count)], 0)))
