"""Feature extraction: the backbone runs once per picture and view, a head is fitted on what it gives.

The head that is judged on the validation pictures has not seen them; the head that is saved is fitted again on
training and validation pictures together, since by then nothing is left to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.core.metrics import Evaluation, mean_evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.progress import OnEpoch, Progress
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import backbone_graph, extract
from headstart.learn.heads import FittedHead, Head, MLPHead, OnHeadEpoch, SingleOutput
from headstart.learn.heads.folds import deal_folds
from headstart.learn.heads.threads import few_threads
from headstart.learn.setup import Setup
from headstart.learn.split import cross_validation_folds
from headstart.learn.trained import Trained
from headstart.networks.export import ACTIVATIONS, Classifier

FOLDS, REPEATS = 5, 5
# Up to so many pictures everything is named once more by cross-validation; more have validation pictures enough. Heads
# that train by epochs cost more.
MAX_CROSSED, MAX_CROSSED_EPOCHS = 5000, 1000


@dataclass(frozen=True, eq=False)
class Material:
    """What heads are fitted on.

    Attributes:
        setup: Where it is from, and how heads are fitted.
        x: Features of n pictures, float32 `(n, v, d)`; the first of the v views is the plain picture.
        y: Targets: int64 `(n,)`, or bool `(n, c)`.
        groups: int64 `(n,)`: pictures with the same number belong together.
        paths: Of the n pictures.
    """

    setup: Setup
    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    paths: tuple[str, ...]

    def fit(
        self,
        head: Head,
        rows: np.ndarray,
        held_out: np.ndarray | None = None,
        seed: int | None = None,
        on_epoch: OnHeadEpoch | None = None,
    ) -> FittedHead:
        """Fit a head on some of the pictures in all views; those held out are for choosing, in their plain view."""
        pair = None if held_out is None or not len(held_out) else (self.x[held_out, 0], self.y[held_out])
        return head.fit(
            self.x[rows],
            self.y[rows],
            len(self.setup.prepared.dataset.classes),
            groups=self.groups[rows],
            class_weight=self.setup.class_weight,
            seed=self.setup.seed if seed is None else seed,
            validation=pair,
            on_epoch=on_epoch,
        )

    def probabilities(self, fitted: FittedHead, rows: np.ndarray) -> np.ndarray:
        """Return what a head says of some of the pictures in their plain view, float32 `(rows, c)`."""
        return probabilities(fitted.module, self.x[rows, 0], self.setup.prepared.dataset.activation)

    def outcomes(self, rows: np.ndarray, named: np.ndarray) -> Outcomes:
        """Return what was said of some of the pictures."""
        paths = tuple(self.paths[row] for row in rows)
        return Outcomes(self.setup.prepared.dataset.classes, paths, self.y[rows], named, units=self.groups[rows])


@dataclass(frozen=True, eq=False)
class Judged:
    """A fitted head, and what is known of it; the attributes with the names of `Trained`'s mean the same.

    Attributes:
        fitted: The head that had not seen the validation pictures.
        final: The head to save, which has.
    """

    fitted: FittedHead
    final: FittedHead
    validation: Evaluation | None = None
    cross_validation: Evaluation | None = None
    held_out: Outcomes | None = None
    crossed: Outcomes | None = None
    repeats: tuple[Outcomes, ...] = ()


def fit_frozen(
    setup: Setup,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
    stage: str | None = None,
) -> Trained:
    """Fit a head on the frozen backbone's features.

    Args:
        setup: What is learned from, and what is built on.
        progress: Is shown the steps, and the epochs of a head that has some.
        on_epoch: Called with each row of the history as soon as it is done.
        stage: What `stage` of the rows that are shown says, where other epochs follow; None leaves it out.

    Raises:
        DataError: The features cannot be learned from.
    """
    progress = progress or Progress()
    prepared, backbone = setup.prepared, setup.backbone
    split, dataset = prepared.split, prepared.dataset
    everything = np.arange(len(dataset.paths))
    rows = everything if prepared.cross_validate else np.concatenate([split.train, split.validation])
    paths = tuple(dataset.paths[row] for row in rows)
    features = extract(prepared.pictures(rows), backbone, setup.features, progress=progress)
    material = Material(setup, features.read(), dataset.targets[rows], split.units[rows], paths)

    # Of the head that is judged alone: those that are fitted again, or on folds, are no part of the history.
    def tell(row: dict[str, float], epochs: int) -> None:
        told: dict[str, Any] = row if stage is None else {**row, "stage": stage}
        progress.epoch(told, epochs)
        if on_epoch is not None:
            on_epoch(told)

    with progress.step("fit head"), few_threads(material.x):
        if prepared.cross_validate:
            judged = _fit_on_all(material, tell)
        else:
            judged = _fit_and_validate(material, np.arange(len(split.train)), tell)
    if judged.fitted.history and judged.fitted.chosen["epochs"] < len(judged.fitted.history):
        progress.note(_out_of_patience(judged.fitted))
    if judged.validation is None and as_long(setup.head, judged.fitted) != setup.head:
        progress.note("No pictures are held out for patience: the head learns for all its epochs.")
    return Trained(
        network=Classifier(backbone.network, judged.final.module, activation=dataset.activation),
        chosen=judged.final.chosen,
        validation=judged.validation,
        cross_validation=judged.cross_validation,
        history=judged.fitted.history,
        features={"precision": features.precision, "engine": features.engine, "computed": features.computed},
        held_out=judged.held_out,
        crossed=judged.crossed,
        repeats=judged.repeats,
        start=judged.fitted.module,
        graph=backbone_graph(backbone) if choose_device(setup.features.device) == "cpu" else None,
    )


def probabilities(module: nn.Module, features: np.ndarray, activation: str = "softmax") -> np.ndarray:
    """Return the probabilities, float32 `(n, c)`, of a head on features `(n, d)`."""
    with torch.inference_mode():
        return ACTIVATIONS[activation](module(torch.from_numpy(np.ascontiguousarray(features)))).numpy()


def as_long(head: Head, fitted: FittedHead) -> Head:
    """Return the head that trains as many epochs as patience kept of a fit; one without patience as it is."""
    if isinstance(head, SingleOutput):
        return replace(head, head=as_long(head.head, fitted))
    if isinstance(head, MLPHead) and head.patience:
        return replace(head, epochs=fitted.chosen["epochs"], patience=0)
    return head


def settle(head: Head, chosen: Mapping[str, Any]) -> Head:
    """Return the head with the hyper-parameters that were chosen, so that fitting it again chooses nothing."""
    if isinstance(head, SingleOutput):
        return replace(head, head=settle(head.head, chosen))
    open_ones = [field.name for field in fields(head) if getattr(head, field.name) is None]  # type: ignore[arg-type]
    return replace(head, **{name: chosen[name] for name in open_ones if name in chosen})  # type: ignore[type-var]


def _fit_and_validate(material: Material, train: np.ndarray, tell: OnHeadEpoch) -> Judged:
    """Fit on the training pictures, which come first, judge on the others, and fit again on all."""
    head, everything = material.setup.head, np.arange(len(material.paths))
    held_out = everything[len(train) :]
    judged = said = crossed = None
    fitted = final = material.fit(head, train, held_out, on_epoch=tell)
    head = as_long(head, fitted)
    if len(held_out):
        named = material.probabilities(fitted, held_out)
        said = material.outcomes(held_out, named)
        judged = said.evaluate(material.setup.seed)
        final = material.fit(head, everything)
    if len(everything) <= (MAX_CROSSED_EPOCHS if fitted.history else MAX_CROSSED):
        crossed = _name_each_once(settle(head, fitted.chosen), material)
    return Judged(fitted, final, validation=judged, held_out=said, crossed=crossed)


def _out_of_patience(fitted: FittedHead) -> str:
    """Return the sentence on a head whose best epoch was not its last."""
    best, last = fitted.chosen["epochs"], len(fitted.history)
    return (
        f"The head had its lowest validation loss after epoch {best} of {last} (patience): that is the one that is "
        f"judged, and fitted again on training and validation pictures it learns for {best} epochs."
    )


def _fit_on_all(material: Material, tell: OnHeadEpoch) -> Judged:
    """Fit on all pictures, where they are too few to hold some out, and judge by cross-validation."""
    repeats = _cross_validate(material)
    figures = mean_evaluation([one.evaluate(material.setup.seed) for one in repeats])
    fitted = material.fit(material.setup.head, np.arange(len(material.paths)), on_epoch=tell)
    return Judged(
        fitted, fitted, cross_validation=figures, held_out=repeats[0], crossed=repeats[0], repeats=tuple(repeats)
    )


def _name_each_once(head: Head, material: Material) -> Outcomes:
    """Return what is said of the pictures that could be held out, by heads that had not seen them."""
    folds = deal_folds(material.y, material.groups, FOLDS, material.setup.seed)
    named = np.zeros((len(material.y), len(material.setup.prepared.dataset.classes)), np.float32)
    for fold in np.unique(folds[folds >= 0]):
        outside = np.flatnonzero(folds == fold)
        named[outside] = material.probabilities(material.fit(head, np.flatnonzero(folds != fold)), outside)
    held_out = np.flatnonzero(folds >= 0)
    return material.outcomes(held_out, named[held_out])


def _cross_validate(material: Material) -> list[Outcomes]:
    """Return what is said in each repeat of stratified cross-validation.

    Every repeat names every picture once, by a head that did not see it.
    """
    prepared, head, seed = material.setup.prepared, material.setup.head, material.setup.seed
    everything = np.arange(len(material.y))
    folds = cross_validation_folds(
        prepared.dataset, prepared.records, everything, folds=FOLDS, repeats=REPEATS, seed=seed
    )
    per_repeat, said = len(folds) // REPEATS, []
    for repeat in range(REPEATS):
        named = np.zeros((len(everything), len(prepared.dataset.classes)), np.float32)
        for inside, outside in folds[repeat * per_repeat : (repeat + 1) * per_repeat]:
            named[outside] = material.probabilities(material.fit(head, inside, seed=seed + repeat), outside)
        said.append(material.outcomes(everything, named))
    return said
