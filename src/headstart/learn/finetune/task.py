"""What is to be fine-tuned, with everything decided, and what tells it from every other run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstart.learn.features import extract
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.features.pictures import Pictures
from headstart.learn.finetune import checkpoint
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.unfreezing import Plan, frozen_tensors
from headstart.learn.heads import ClassWeight, Head
from headstart.learn.prepare import Prepared
from headstart.networks import Backbone, faster

if TYPE_CHECKING:
    from headstart.learn.trained import Trained


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be fine-tuned.

    Attributes:
        prepared: The pictures and their split.
        backbone: Its upper stages will change.
        layers: Where it is cut and what learns when.
        head: The kind of head and its settings.
        start: The frozen backbone with its fitted head.
        start_views: Views that the head was fitted on.
        how: Views, augmentation, device and precision below the cut.
        settings: Complete settings of the loop.
        class_weight: None, `balanced`, or a weight for each class index.
        seed: Of everything that is drawn.
        device: Where training is.
    """

    prepared: Prepared
    backbone: Backbone
    layers: Plan
    head: Head
    start: Trained
    start_views: int
    how: FeatureSettings
    settings: TrainingSettings
    class_weight: ClassWeight
    seed: int
    device: torch.device

    def pictures(self, rows: np.ndarray) -> Pictures:
        """Return some of the pictures."""
        return self.prepared.pictures(rows)

    def frozen(self) -> dict[str, torch.Tensor]:
        """Return the tensors that training must not change, by name."""
        return frozen_tensors(self.backbone, self.layers, batch_norm=self.settings.batch_norm)


def identity(task: Task) -> dict[str, Any]:
    """Return all that a run's weights depend on: a checkpoint is continued only where all of it is equal."""
    prepared, backbone, head = task.prepared, task.backbone, task.head
    settings = asdict(task.settings)
    del settings["checkpoint_seconds"]
    return {
        "train": _digest(prepared, prepared.split.train),
        "validation": _digest(prepared, prepared.split.validation),
        "backbone": backbone.name,
        "weights": backbone.weights.identity,
        "pooling": backbone.pooling,
        "preprocessing": backbone.preprocessing.to_json(),
        "layers": asdict(task.layers),
        "head": [type(head).__name__, asdict(head) if is_dataclass(head) and not isinstance(head, type) else None],
        "start_views": task.start_views,
        "features": asdict(task.how),
        # The settings say what is asked for, these in which version it is done.
        "augmentation": task.how.augmentation.identity,
        "extract": extract.VERSION,
        "faster": faster.VERSION,
        "format": checkpoint.FORMAT,
        "settings": settings,
        "class_weight": task.class_weight,
        "seed": task.seed,
        "torch": torch.__version__,
    }


def network_identity(task: Task) -> dict[str, Any]:
    """Return what the speed of a step depends on, but for the batch."""
    names = (task.backbone.name, task.backbone.preprocessing.image_size, task.layers.cut, task.backbone.pooling)
    versions = {"faster": faster.VERSION, "format": checkpoint.FORMAT, "torch": torch.__version__}
    return {"network": names, "threads": torch.get_num_threads(), **versions}


def _digest(prepared: Prepared, rows: Sequence[int] | np.ndarray) -> str:
    """A hash of the pictures' bytes and labels in their order, which the order of the steps follows."""
    lines = [f"{prepared.records[row].digest} {prepared.dataset.targets[row].tolist()}" for row in rows]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
