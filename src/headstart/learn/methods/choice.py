"""Which of the frozen start and the fine-tuned network is kept: the one that validation prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.core.labels import paired_bootstrap
from headstart.core.metrics import Evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.core.sentences import paired_verdict
from headstart.core.significance import mcnemar, paired_permutation
from headstart.learn.finetune.loss import picture_weights
from headstart.learn.finetune.moved import distances
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.state import Job
from headstart.learn.finetune.task import Task
from headstart.learn.finetune.validation import validation_logits
from headstart.learn.heads import ClassWeight
from headstart.learn.trained import Gain, Trained
from headstart.networks.export import ACTIVATIONS, Classifier


@dataclass(frozen=True, eq=False)
class Tuned:
    """A network that was fine-tuned, before it is known whether it is kept. Its backbone is that of the task.

    Attributes:
        head: Features -> logits, as trained.
        said: What the network says of the validation pictures.
        settings: As training used them.
        history: One row an epoch.
        best_epoch: The epoch, from 1, whose weights these are.
        frozen_tensors, frozen_hash: As in `Gain`.
    """

    head: nn.Module
    said: Outcomes
    settings: TrainingSettings
    history: tuple[dict[str, float], ...]
    best_epoch: int
    frozen_tensors: int
    frozen_hash: str


def judge(job: Job, task: Task) -> Outcomes:
    """Return what the trained network says of the validation pictures."""
    prepared = task.setup.prepared
    dataset, rows = prepared.dataset, prepared.split.validation
    logits = torch.cat([part for _, part in validation_logits(job, task.course.settings.batch_size)])
    named = ACTIVATIONS[dataset.activation](logits).cpu().numpy()
    paths, units = tuple(dataset.paths[row] for row in rows), prepared.split.units[rows]
    return Outcomes(dataset.classes, paths, dataset.targets[rows], named, units=units)


def choose(task: Task, before: nn.Module, tuned: Tuned, progress: Progress) -> Trained:
    """Return the tuned network where validation prefers it, else the frozen start; say what was gained.

    Args:
        task: What was fine-tuned.
        before: The backbone's network as it was.
        tuned: The trained network; both of its parts are on the processor.
        progress: Is told.
    """
    start, backbone, class_weight, seed = task.start, task.setup.backbone, task.setup.class_weight, task.setup.seed
    assert start.validation is not None  # `fit_finetune` has made sure
    assert start.held_out is not None
    judged = tuned.said.evaluate(seed)
    old, new = score(start.held_out, start.validation, class_weight), score(tuned.said, judged, class_weight)
    test, p = paired_test(start.held_out, tuned.said, class_weight, seed)
    gain = Gain(
        figure=new.figure,
        frozen=old.value,
        finetuned=new.value,
        p=p,
        test=test,
        n=judged.n,
        kept=is_better(new, old),
        precision=tuned.settings.precision,
        epochs=len(tuned.history),
        best_epoch=tuned.best_epoch,
        frozen_tensors=tuned.frozen_tensors,
        frozen_hash=tuned.frozen_hash,
    )
    progress.note(_told(gain))
    history = (*_of_stage("head", start.history), *_of_stage("finetune", tuned.history))
    if not gain.kept:
        return replace(start, history=history, gain=gain)
    return replace(
        start,
        network=Classifier(backbone.network, tuned.head, activation=start.network.activation),
        chosen={**start.chosen, **asdict(tuned.settings), "cut": task.course.layers.cut},
        validation=judged,
        held_out=tuned.said,
        crossed=None,
        history=history,
        moved=tuple(distances(before, start.start, backbone, tuned.head)),
        gain=gain,
        graph=None,  # it is that of the backbone as it was
    )


@dataclass(frozen=True)
class Score:
    """What one of the two is preferred for.

    Attributes:
        figure: Name of the figure.
        value: Its value; the larger is the better.
        log_loss: The smaller is the better of two with the same value.
    """

    figure: str
    value: float
    log_loss: float


def score(said: Outcomes, judged: Evaluation, class_weight: ClassWeight) -> Score:
    """Return what a network is preferred for: that as many pictures as possible are named right, and surely.

    With several labels it is their mean average precision. Where classes weigh differently, so do their pictures, as in
    the loss of training: the weighted accuracy, which with `balanced` is the mean of the classes' recalls.

    Args:
        said: Of the validation pictures.
        judged: The figures of that.
        class_weight: None, `balanced`, or a weight for each class index.
    """
    weights = picture_weights(class_weight, said.targets, len(said.classes))
    if weights is None:
        return Score(judged.headline, judged.figures[judged.headline].value, judged.figures["log_loss"].value)
    own = said.probabilities[np.arange(len(said.targets)), said.targets]
    losses = -np.log(np.maximum(own.astype(np.float64), np.finfo(own.dtype).eps))
    figure = "balanced_accuracy" if class_weight == "balanced" else "weighted_accuracy"
    return Score(figure, float(weights @ said.right / weights.sum()), float(weights @ losses / weights.sum()))


def is_better(new: Score, old: Score) -> bool:
    """Whether the figure is larger or, where it is the same, the log loss smaller."""
    return (new.value, -new.log_loss) > (old.value, -old.log_loss)


def paired_test(frozen: Outcomes, tuned: Outcomes, class_weight: ClassWeight, seed: int) -> tuple[str, float]:
    """Return the name and the p of the test that suits the figure, of what was said of the same pictures."""
    if tuned.several_labels:
        said = frozen.probabilities, tuned.probabilities
        return "bootstrap", paired_bootstrap(tuned.targets, *said, seed, tuned.units)[1]
    weights = picture_weights(class_weight, tuned.targets, len(tuned.classes))
    if weights is None:
        return "McNemar", mcnemar(frozen.right, tuned.right, tuned.units)[1]
    change = weights * (tuned.right.astype(np.float64) - frozen.right)
    return "permutation", paired_permutation(change, tuned.units, seed)


def _told(gain: Gain) -> str:
    """Return the sentence on what was gained."""
    figure = gain.figure.replace("_", " ")
    kept = f"fine-tuned backbone of epoch {gain.best_epoch}" if gain.kept else "frozen backbone"
    return (
        f"Fine-tuning: validation {figure} {gain.frozen:.3f} -> {gain.finetuned:.3f} on {gain.n:,} pictures "
        f"({gain.test} p = {gain.p:.2g}: {paired_verdict(gain.p, gain.epochs)}); the {kept} is kept."
    )


def _of_stage(stage: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a history with what was trained in them, `head` or `finetune`; each counts its own epochs."""
    return [{"epoch": row["epoch"], "stage": stage, **row} for row in rows]
