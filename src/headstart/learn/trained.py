"""What a method hands on: the trained network, and how well it did while it was being chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from headstart.core.metrics import Evaluation
from headstart.core.outcomes import Outcomes
from headstart.networks.export import Classifier


@dataclass(frozen=True)
class Gain:
    """What fine-tuning gained over the frozen start on the same validation pictures, and what proves it frozen below.

    Attributes:
        figure: Name of the figure by which one of the two was kept.
        frozen, finetuned: The figure of each.
        p: Of a paired test of the two.
        test: Its name.
        n: Number of validation pictures.
        kept: Whether the fine-tuned network is the one that was kept.
        precision: What training computed in.
        epochs: How many there were.
        best_epoch: The one, from 1, that validation found best.
        frozen_tensors: How many tensors of the backbone were not to change.
        frozen_hash: The beginning of their hash, equal before training and after it.
    """

    figure: str
    frozen: float
    finetuned: float
    p: float
    test: str
    n: int
    kept: bool
    precision: str
    epochs: int
    best_epoch: int
    frozen_tensors: int
    frozen_hash: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and what was learned about it.

    Attributes:
        network: Backbone and head, ready to be saved.
        chosen: Hyper-parameters that were chosen, by name.
        validation: Figures on the validation pictures, of the head that had not seen them; None without any.
        cross_validation: Figures over repeated cross-validation, where the data are too few for a test set.
        history: One row an epoch, for methods that have epochs; after fine-tuning `stage` says of what, `head` or
            `finetune`.
        features: Precision, engine and number of features computed.
        held_out: What the head that was judged said of pictures it had not seen: of the validation pictures or, where
            the data are too few, of all by cross-validation; None without any.
        crossed: The same of all pictures that the head learned from, each by a head that had not seen it; None where
            that would take long, or the backbone is tuned.
        start: The head as it was judged, fitted on the training pictures alone.
        graph: ONNX file of the backbone as it is in `network`, where the cache has it; None for a tuned one.
        moved: What fine-tuning moved how far, a row a stage and one for the head; empty where the frozen start is kept.
        gain: What fine-tuning gained; None without it.
        failed: Why fine-tuning, which was tried, came to nothing; None where it did not fail.
        run_folder: The checkpoint of fine-tuning, to be deleted once the model is saved; None without it.
        repeats: What was said in each repeat of cross-validation, of which `held_out` is the first; empty without it.
    """

    network: Classifier
    chosen: dict[str, Any]
    validation: Evaluation | None
    cross_validation: Evaluation | None
    history: tuple[dict[str, Any], ...]
    features: dict[str, Any]
    held_out: Outcomes | None
    crossed: Outcomes | None
    start: nn.Module
    graph: Path | None = None
    moved: tuple[dict[str, Any], ...] = ()
    gain: Gain | None = None
    failed: str | None = None
    run_folder: Path | None = None
    repeats: tuple[Outcomes, ...] = ()

    @property
    def tuned(self) -> bool:
        """Whether the backbone is not the pretrained one any more."""
        return self.gain is not None and self.gain.kept
