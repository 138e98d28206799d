"""What is given to a method of learning: pictures, a backbone and a kind of head."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.learn.features.extract import FeatureSettings
from headstart.learn.heads import ClassWeight, Head
from headstart.learn.prepare import Prepared
from headstart.networks import Backbone


@dataclass(frozen=True, eq=False)
class Setup:
    """What a method learns from, and what it builds on.

    Attributes:
        prepared: The pictures and their split.
        backbone: The pretrained network; fine-tuning changes its upper stages.
        head: The kind of head and its settings.
        features: Views, augmentation, device and precision of what the frozen backbone gives.
        class_weight: None, `balanced`, or a weight for each class index.
        seed: Of everything that is drawn.
    """

    prepared: Prepared
    backbone: Backbone
    head: Head
    features: FeatureSettings
    class_weight: ClassWeight = None
    seed: int = 0
