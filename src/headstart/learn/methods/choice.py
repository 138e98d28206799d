"""Which of the frozen start and the fine-tuned network is kept: the one that validation prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from headstart.core.labels import paired_bootstrap
from headstart.core.metrics import Evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.core.significance import mcnemar
from headstart.learn.finetune.loop import Job, validation_logits
from headstart.learn.finetune.moved import distances
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.task import Task
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
        frozen_tensors, frozen_hash: As in `Gain`.
    """

    head: nn.Module
    said: Outcomes
    settings: TrainingSettings
    history: tuple[dict[str, float], ...]
    frozen_tensors: int
    frozen_hash: str


def judge(job: Job, task: Task) -> Outcomes:
    """Return what the trained network says of the validation pictures."""
    prepared = task.setup.prepared
    dataset, rows = prepared.dataset, prepared.split.validation
    logits = torch.cat([part for _, part in validation_logits(job)])
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
    start, backbone, seed = task.start, task.setup.backbone, task.setup.seed
    assert start.validation is not None  # `fit_finetune` has made sure
    assert start.held_out is not None
    new = tuned.said.evaluate(seed)
    test, p = paired_test(start.held_out, tuned.said, seed)
    gain = Gain(
        figure=new.headline,
        frozen=start.validation.figures[new.headline].value,
        finetuned=new.figures[new.headline].value,
        p=p,
        n=new.n,
        kept=is_better(new, start.validation),
        precision=tuned.settings.precision,
        epochs=len(tuned.history),
        frozen_tensors=tuned.frozen_tensors,
        frozen_hash=tuned.frozen_hash,
    )
    progress.note(_told(gain, test))
    history = (*_of_stage("head", start.history), *_of_stage("finetune", tuned.history))
    if not gain.kept:
        return replace(start, history=history, gain=gain)
    return replace(
        start,
        network=Classifier(backbone.network, tuned.head, activation=start.network.activation),
        chosen={**start.chosen, **asdict(tuned.settings), "cut": task.course.layers.cut},
        validation=new,
        held_out=tuned.said,
        crossed=None,
        history=history,
        moved=tuple(distances(before, start.start, backbone, tuned.head)),
        gain=gain,
        graph=None,  # it is that of the backbone as it was
    )


def is_better(new: Evaluation, old: Evaluation) -> bool:
    """Whether more pictures are named right, or as many more surely; of several labels by their average precision."""
    one, two = ((e.figures[e.headline].value, -e.figures["log_loss"].value) for e in (new, old))
    return one > two


def paired_test(frozen: Outcomes, tuned: Outcomes, seed: int) -> tuple[str, float]:
    """Return the name and the p of the test that suits what was said of the same validation pictures."""
    if tuned.several_labels:
        return "bootstrap", paired_bootstrap(
            tuned.targets, frozen.probabilities, tuned.probabilities, seed, tuned.units
        )[1]
    return "McNemar", mcnemar(frozen.right, tuned.right, tuned.units)[1]


def _told(gain: Gain, test: str) -> str:
    """Return the sentence on what was gained."""
    verdict = "a real difference" if gain.p < 0.05 else "chance alone can do that"
    # That helps the tuned network a little: p is the smaller for it.
    verdict += "; the epoch was chosen on these pictures" if gain.epochs > 1 else ""
    figure, kept = gain.figure.replace("_", " "), "fine-tuned" if gain.kept else "frozen"
    return (
        f"Fine-tuning: validation {figure} {gain.frozen:.3f} -> {gain.finetuned:.3f} on {gain.n:,} pictures "
        f"({test} p = {gain.p:.2g}: {verdict}); the {kept} backbone is kept."
    )


def _of_stage(stage: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a history with what was trained in them, `head` or `finetune`; each counts its own epochs."""
    return [{"epoch": row["epoch"], "stage": stage, **row} for row in rows]
