"""Feature extraction: the backbone runs once per picture and view, a head is fitted on what it gives.

The head that is judged on the validation pictures has not seen them; the head that is saved is fitted again on
training and validation pictures together, since by then nothing is left to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.core.metrics import Evaluation, Figure, evaluate
from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import FeatureSettings, backbone_graph, extract
from headstart.learn.heads import ClassWeight, FittedHead, Head, SingleOutput
from headstart.learn.heads.folds import deal_folds
from headstart.learn.heads.threads import few_threads
from headstart.learn.methods.trained import Trained
from headstart.learn.prepare import Prepared
from headstart.learn.split import cross_validation_folds
from headstart.networks import Backbone
from headstart.networks.export import ACTIVATIONS, Classifier

FOLDS, REPEATS = 5, 5
# Up to so many pictures everything is named once more by cross-validation; more have validation pictures enough. Heads
# that train by epochs cost more.
MAX_CROSSED, MAX_CROSSED_EPOCHS = 5000, 1000


def fit_frozen(
    prepared: Prepared,
    backbone: Backbone,
    head: Head,
    how: FeatureSettings,
    *,
    class_weight: ClassWeight = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Fit a head on the frozen backbone's features.

    Args:
        prepared: The pictures and their split.
        backbone: The frozen network.
        head: The kind of head and its settings.
        how: Views, augmentation, device and precision of the features.
        class_weight: None, `balanced`, or a weight for each class index.
        seed: Of everything the head draws.
        progress: Is shown the steps.

    Raises:
        DataError: The features cannot be learned from.
    """
    progress = progress or Progress()
    split, dataset = prepared.split, prepared.dataset
    train, validation = split.train, split.validation
    rows = np.arange(len(dataset.paths)) if prepared.cross_validate else np.concatenate([train, validation])
    features = extract(
        [dataset.paths[row] for row in rows],
        backbone,
        how,
        digests=[prepared.records[row].digest for row in rows],
        progress=progress,
    )
    x, y = features.read(), dataset.targets[rows]
    num_classes, activation = len(dataset.classes), dataset.activation

    def fit(inside: np.ndarray, held_out: np.ndarray | None = None) -> FittedHead:
        pair = None if held_out is None or not len(held_out) else (x[held_out, 0], y[held_out])
        return head.fit(
            x[inside],
            y[inside],
            num_classes,
            groups=split.units[rows][inside],
            class_weight=class_weight,
            seed=seed,
            validation=pair,
        )

    def outcomes(held_out: np.ndarray, named: np.ndarray) -> Outcomes:
        return Outcomes(dataset.classes, tuple(dataset.paths[row] for row in rows[held_out]), y[held_out], named)

    judged = crossed = said = all_said = None
    with progress.step("fit head"), few_threads(x):
        if prepared.cross_validate:
            crossed, named = _cross_validate(prepared, head, x, class_weight=class_weight, seed=seed)
            said = all_said = outcomes(rows, named)
            fitted = final = fit(rows)
        else:
            inside, held_out = np.arange(len(train)), np.arange(len(train), len(rows))
            fitted = final = fit(inside, held_out)
            if len(held_out):
                named = probabilities(fitted.module, x[held_out, 0], activation)
                judged, said = evaluate(y[held_out], named, dataset.classes, seed=seed), outcomes(held_out, named)
                final = fit(np.arange(len(rows)))
            if len(rows) <= (MAX_CROSSED_EPOCHS if fitted.history else MAX_CROSSED):
                settled = settle(head, fitted.chosen)
                judge = _name_each_once(settled, x, y, num_classes, split.units[rows], class_weight, seed, activation)
                all_said = outcomes(*judge)
    return Trained(
        network=Classifier(backbone.network, final.module, activation=activation),
        chosen=final.chosen,
        validation=judged,
        cross_validation=crossed,
        history=fitted.history,
        features={"precision": features.precision, "engine": features.engine, "computed": features.computed},
        held_out=said,
        crossed=all_said,
        start=fitted.module,
        graph=backbone_graph(backbone) if choose_device(how.device) == "cpu" else None,
    )


def probabilities(module: nn.Module, features: np.ndarray, activation: str = "softmax") -> np.ndarray:
    """Return the probabilities, float32 `(n, c)`, of a head on features `(n, d)`."""
    with torch.inference_mode():
        return ACTIVATIONS[activation](module(torch.from_numpy(np.ascontiguousarray(features)))).numpy()


def settle(head: Head, chosen: Mapping[str, Any]) -> Head:
    """Return the head with the hyper-parameters that were chosen, so that fitting it again chooses nothing."""
    if isinstance(head, SingleOutput):
        return replace(head, head=settle(head.head, chosen))
    open_ones = [field.name for field in fields(head) if getattr(head, field.name) is None]  # type: ignore[arg-type]
    return replace(head, **{name: chosen[name] for name in open_ones if name in chosen})  # type: ignore[type-var]


def _name_each_once(
    head: Head,
    x: np.ndarray,
    y: np.ndarray,
    num_classes: int,
    groups: np.ndarray,
    class_weight: ClassWeight,
    seed: int,
    activation: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that could be held out, and their probabilities by heads that had not seen them."""
    folds = deal_folds(y, groups, FOLDS, seed)
    named = np.zeros((len(y), num_classes), np.float32)
    for fold in np.unique(folds[folds >= 0]):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        made = head.fit(x[inside], y[inside], num_classes, groups=groups[inside], class_weight=class_weight, seed=seed)
        named[outside] = probabilities(made.module, x[outside, 0], activation)
    held_out = np.flatnonzero(folds >= 0)
    return held_out, named[held_out]


def _cross_validate(
    prepared: Prepared, head: Head, x: np.ndarray, *, class_weight: ClassWeight, seed: int
) -> tuple[Evaluation, np.ndarray]:
    """Repeated stratified cross-validation: figures are means over the repeats; and the first repeat's probabilities.

    Every repeat names every picture once, by a head that did not see it; the interval is the mean of the
    repeats' intervals, since repeats share their pictures and do not make them more.
    """
    dataset = prepared.dataset
    y, everything = dataset.targets, np.arange(len(dataset.targets))
    folds = cross_validation_folds(dataset, prepared.records, everything, folds=FOLDS, repeats=REPEATS, seed=seed)
    per_repeat = len(folds) // REPEATS
    evaluations, said = [], []
    for repeat in range(REPEATS):
        named = np.zeros((len(y), len(dataset.classes)), np.float32)
        for inside, outside in folds[repeat * per_repeat : (repeat + 1) * per_repeat]:
            fitted = head.fit(
                x[inside],
                y[inside],
                len(dataset.classes),
                groups=prepared.split.units[inside],
                class_weight=class_weight,
                seed=seed + repeat,
            )
            named[outside] = probabilities(fitted.module, x[outside, 0], dataset.activation)
        evaluations.append(evaluate(y, named, dataset.classes, seed=seed))
        said.append(named)
    figures = {
        name: Figure(
            *(float(np.mean([getattr(e.figures[name], end) for e in evaluations])) for end in ("value", "low", "high"))
        )
        for name in evaluations[0].figures
    }
    return replace(evaluations[0], figures=figures), said[0]
