"""Feature extraction: the backbone runs once per picture and view, a head is fitted on what it gives.

The head that is judged on the validation pictures has not seen them; the head that is saved is fitted again on
training and validation pictures together, since by then nothing is left to choose.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from headstart.core.metrics import Evaluation, Figure, evaluate
from headstart.core.progress import Progress
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import FeatureSettings, backbone_graph, extract
from headstart.learn.heads import ClassWeight, FittedHead, Head
from headstart.learn.methods.trained import Trained
from headstart.learn.prepare import Prepared
from headstart.learn.split import cross_validation_folds
from headstart.networks import Backbone
from headstart.networks.export import Classifier

FOLDS, REPEATS = 5, 5


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
    num_classes = len(dataset.classes)

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

    judged = crossed = right = None
    with progress.step("fit head"):
        if prepared.cross_validate:
            crossed = _cross_validate(prepared, head, x, class_weight=class_weight, seed=seed)
            fitted = final = fit(rows)
        else:
            inside, held_out = np.arange(len(train)), np.arange(len(train), len(rows))
            fitted = final = fit(inside, held_out)
            if len(held_out):
                named = probabilities(fitted.module, x[held_out, 0])
                judged, right = (
                    evaluate(y[held_out], named, dataset.classes, seed=seed),
                    named.argmax(axis=1) == y[held_out],
                )
                final = fit(np.arange(len(rows)))
    return Trained(
        network=Classifier(backbone.network, final.module),
        chosen=final.chosen,
        validation=judged,
        cross_validation=crossed,
        history=fitted.history,
        features={"precision": features.precision, "engine": features.engine, "computed": features.computed},
        validation_right=right,
        start=fitted.module,
        graph=backbone_graph(backbone) if choose_device(how.device) == "cpu" else None,
    )


def probabilities(module: nn.Module, features: np.ndarray) -> np.ndarray:
    """Return softmax probabilities, float32 `(n, c)`, of a head on features `(n, d)`."""
    with torch.inference_mode():
        return torch.softmax(module(torch.from_numpy(np.ascontiguousarray(features))), dim=1).numpy()


def _cross_validate(
    prepared: Prepared, head: Head, x: np.ndarray, *, class_weight: ClassWeight, seed: int
) -> Evaluation:
    """Repeated stratified cross-validation: figures are means over the repeats.

    Every repeat names every picture once, by a head that did not see it; the interval is the mean of the
    repeats' intervals, since repeats share their pictures and do not make them more.
    """
    dataset = prepared.dataset
    y, everything = dataset.targets, np.arange(len(dataset.targets))
    folds = cross_validation_folds(dataset, prepared.records, everything, folds=FOLDS, repeats=REPEATS, seed=seed)
    per_repeat = len(folds) // REPEATS
    evaluations = []
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
            named[outside] = probabilities(fitted.module, x[outside, 0])
        evaluations.append(evaluate(y, named, dataset.classes, seed=seed))
    figures = {
        name: Figure(
            *(float(np.mean([getattr(e.figures[name], end) for e in evaluations])) for end in ("value", "low", "high"))
        )
        for name in evaluations[0].figures
    }
    return replace(evaluations[0], figures=figures)
