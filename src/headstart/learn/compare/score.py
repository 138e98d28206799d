"""Fitting a choice on every fold, and judging it on the pictures that the fold holds out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from headstart.core import pictures as sources
from headstart.core.progress import Progress
from headstart.learn.compare.comparison import Choice, Scored
from headstart.learn.compare.figures import (
    accuracy_over_repeats,
    fold_scores,
    log_loss,
    precision_over_folds,
    right_by_repeat,
)
from headstart.learn.compare.ground import Ground
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.heads import Head, make_head
from headstart.learn.heads.folds import deal_folds
from headstart.learn.heads.threads import few_threads
from headstart.learn.methods.finetune import fit_finetune
from headstart.learn.methods.frozen import probabilities
from headstart.learn.prepare import Prepared
from headstart.learn.runs import discard
from headstart.learn.save import write_network
from headstart.learn.setup import Setup
from headstart.networks import Backbone

# Each fold of fine-tuning costs as much as a `fit`: one repeat.
FINETUNE_REPEATS = 1
# One of so many parts of a fold's training pictures validates its fine-tuning, as `validation_size` does in `fit`.
VALIDATION_PARTS = 6


@dataclass(frozen=True, eq=False)
class Fold:
    """What became of a choice on one fold.

    Attributes:
        probabilities: Of the held-out pictures, float32 `(m, c)`.
        megabytes: Size of the network in float32, backbone and head (10^6 bytes).
        tuned: Whether the tuned network was kept; None for what is not fine-tuned.
    """

    probabilities: np.ndarray
    megabytes: float
    tuned: bool | None = None


def score_frozen(ground: Ground, choice: Choice, backbone: Backbone, x: np.ndarray, progress: Progress) -> Scored:
    """Fit the head on features and judge it, fold by fold.

    Args:
        ground: What all choices are compared on.
        choice: A head on a frozen backbone.
        backbone: The backbone.
        x: Its features of all pictures, float32 `(n, 1, d)`.
        progress: Is shown the fits.
    """
    run = partial(_frozen_fold, ground, make_head(choice.head), backbone, x)
    with few_threads(x):
        return _score(ground, choice, ground.parts, run, progress)


def score_finetuned(
    ground: Ground, choice: Choice, backbone: Backbone, how: FeatureSettings, progress: Progress
) -> Scored:
    """Fine-tune and judge the saved model, in the folds of one repeat.

    Args:
        ground: What all choices are compared on.
        choice: A head on a backbone that is fine-tuned.
        backbone: Is not changed.
        how: Device and precision.
        progress: Is shown the fits.
    """
    run = partial(_finetuned_fold, ground, make_head(choice.head), backbone, how)
    return _score(ground, choice, ground.parts[: FINETUNE_REPEATS * ground.folds], run, progress)


def _frozen_fold(
    ground: Ground,
    head: Head,
    backbone: Backbone,
    x: np.ndarray,
    fold: int,
    inside: np.ndarray,
    outside: np.ndarray,
) -> Fold:
    """Let the head learn from the pictures inside a fold, and judge those outside."""
    dataset, y = ground.prepared.dataset, ground.targets
    fitted = head.fit(
        x[inside], y[inside], len(dataset.classes), groups=ground.units[inside], seed=ground.seed_of(fold)
    )
    named = probabilities(fitted.module, x[outside, 0], dataset.activation)
    return Fold(named, _megabytes(backbone.network, fitted.module))


def _finetuned_fold(
    ground: Ground,
    head: Head,
    backbone: Backbone,
    how: FeatureSettings,
    fold: int,
    inside: np.ndarray,
    outside: np.ndarray,
) -> Fold:
    """Tune a copy of the backbone on the pictures inside a fold, and judge those outside by the saved model."""
    network = replace(backbone, network=deepcopy(backbone.network))
    prepared = prepared_fold(ground, inside, outside, fold)
    try:
        trained = fit_finetune(Setup(prepared, network, head, how, seed=ground.seed_of(fold)), TrainingSettings())
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # a comparison has no `--resume` to tell of
    paths = [prepared.dataset.paths[row] for row in prepared.split.test]
    samples = np.stack([sources.load(path, backbone.preprocessing) for path in paths[:4]])
    with tempfile.TemporaryDirectory(prefix="headstart-compare-") as folder:
        # Judged as the saved model that it would be.
        predictor = write_network(
            Path(folder),
            trained.network,
            prepared.dataset.classes,
            backbone.preprocessing,
            samples,
            trained.graph,
        )
        named = predictor.predict_proba(paths)
    discard(trained.run_folder)
    return Fold(named, _megabytes(trained.network), trained.tuned)


def _score(
    ground: Ground,
    choice: Choice,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    run: Callable[[int, np.ndarray, np.ndarray], Fold],
    progress: Progress,
) -> Scored:
    """Fit and judge a choice on every fold: `run` takes its number and the pictures inside and outside it."""
    start, done = time.perf_counter(), list[Fold]()
    with progress.step(choice.name, len(parts), "fits") as update:
        for number, (inside, outside) in enumerate(parts):
            done.append(run(number, inside, outside))
            update(number + 1)
    seconds = time.perf_counter() - start
    targets, right = ground.targets[ground.judged], None
    judged = [(ground.targets[outside], fold.probabilities) for (_, outside), fold in zip(parts, done, strict=True)]
    scores, tuned = fold_scores(judged), [fold.tuned for fold in done if fold.tuned is not None]
    if targets.ndim == 2:
        figure = precision_over_folds(scores, ground.test_share, targets.sum(axis=0))
    else:
        right = right_by_repeat(judged, [outside for _, outside in parts], len(targets))
        figure = accuracy_over_repeats(right, ground.units[ground.judged])
    return Scored(
        choice,
        scores,
        figure,
        log_loss(judged),
        done[0].megabytes,
        seconds,
        tuned_folds=sum(tuned) if tuned else None,
        right=right,
    )


def prepared_fold(ground: Ground, inside: np.ndarray, outside: np.ndarray, fold: int) -> Prepared:
    """Return the data of one fold, as if its held-out pictures were the test pictures."""
    dealt = deal_folds(ground.targets[inside], ground.units[inside], VALIDATION_PARTS, ground.seed_of(fold))
    split = replace(
        ground.prepared.split,
        train=ground.rows[inside[dealt != 0]],
        validation=ground.rows[inside[dealt == 0]],
        test=ground.rows[outside],
    )
    return replace(ground.prepared, split=split, cross_validate=False)


def _megabytes(*modules: torch.nn.Module) -> float:
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e6
