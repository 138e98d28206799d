"""What is to be fine-tuned, with everything decided, and what tells it from every other run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstart.learn.features import extract
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.settings import TrainingSettings, complete, usual_decay
from headstart.learn.finetune.unfreezing import Plan, frozen_tensors, plan
from headstart.learn.prepare import Prepared
from headstart.networks import Backbone, faster

if TYPE_CHECKING:
    from headstart.learn.setup import Setup
    from headstart.learn.trained import Trained


@dataclass(frozen=True, eq=False)
class Course:
    """How training goes.

    Attributes:
        layers: Where the backbone is cut and what learns when.
        settings: Complete settings of the loop.
        features: Views, augmentation, device and precision below the cut.
        device: Where training is.
        pixels: Whether nothing lies below the cut: training sees pixels.
    """

    layers: Plan
    settings: TrainingSettings
    features: FeatureSettings
    device: torch.device
    pixels: bool

    @property
    def epochs(self) -> int:
        """How many there are."""
        return int(self.settings.epochs or 1)


def make_course(backbone: Backbone, training: TrainingSettings, features: FeatureSettings, pictures: int) -> Course:
    """Return the course of training; what the settings leave open follows from the number of pictures.

    Args:
        backbone: What is to be tuned.
        training: Settings of the loop.
        features: Views, augmentation, device and precision below the cut.
        pictures: How many there are to train on.

    Raises:
        SettingError: `unfreeze` does not suit the backbone, or there is no such device.
    """
    settings = complete(training, pictures, backbone.stages)
    layers = plan(backbone, settings.unfreeze if settings.unfreeze is not None else "all")
    decay = usual_decay(len(backbone.stages) - backbone.stages.index(layers.cut))
    settings = replace(
        settings,
        epochs=layers.epochs or settings.epochs,
        layer_decay=decay if settings.layer_decay is None else settings.layer_decay,
    )
    device = torch.device(choose_device(features.device))
    return Course(layers, settings, features, device, pixels=layers.cut == backbone.stages[0])


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be fine-tuned.

    Attributes:
        setup: What is learned from and built on; the upper stages of its backbone will change.
        start: The frozen backbone with its head, fitted as `setup` says.
        course: How training goes on from there.
    """

    setup: Setup
    start: Trained
    course: Course

    def frozen(self) -> dict[str, torch.Tensor]:
        """Return the tensors that training must not change, by name."""
        return frozen_tensors(self.setup.backbone, self.course.layers, batch_norm=self.course.settings.batch_norm)


def identity(task: Task) -> dict[str, Any]:
    """Return all that a run's weights depend on: a checkpoint is continued only where all of it is equal."""
    prepared, backbone, head, course = task.setup.prepared, task.setup.backbone, task.setup.head, task.course
    settings = asdict(course.settings)
    del settings["checkpoint_seconds"]
    return {
        "train": _digest(prepared, prepared.split.train),
        "validation": _digest(prepared, prepared.split.validation),
        "backbone": backbone.name,
        "weights": backbone.weights.identity,
        "pooling": backbone.pooling,
        "preprocessing": backbone.preprocessing.to_json(),
        "layers": asdict(course.layers),
        "head": [type(head).__name__, asdict(head) if is_dataclass(head) and not isinstance(head, type) else None],
        "start_views": task.setup.features.views,
        "features": asdict(course.features),
        # The settings say what is asked for, these in which version it is done.
        "augmentation": course.features.augmentation.identity,
        "extract": extract.VERSION,
        "faster": faster.VERSION,
        "format": checkpoint.FORMAT,
        "settings": settings,
        "class_weight": task.setup.class_weight,
        "seed": task.setup.seed,
        "torch": torch.__version__,
    }


def network_identity(task: Task) -> dict[str, Any]:
    """Return what the speed of a step depends on, but for the batch."""
    backbone = task.setup.backbone
    names = (backbone.name, backbone.preprocessing.image_size, task.course.layers.cut, backbone.pooling)
    versions = {"faster": faster.VERSION, "format": checkpoint.FORMAT, "torch": torch.__version__}
    return {"network": names, "threads": torch.get_num_threads(), **versions}


def _digest(prepared: Prepared, rows: Sequence[int] | np.ndarray) -> str:
    """A hash of the pictures' bytes and labels in their order, which the order of the steps follows."""
    lines = [f"{prepared.records[row].digest} {prepared.dataset.targets[row].tolist()}" for row in rows]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
