"""Fitting a choice on every fold, and judging it on the pictures that the fold holds out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
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
from headstart.learn.finetune.checkpoint import discard
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.heads import make_head
from headstart.learn.heads.folds import deal_folds
from headstart.learn.heads.threads import few_threads
from headstart.learn.methods.finetune import fit_finetune
from headstart.learn.methods.frozen import probabilities
from headstart.learn.prepare import Prepared
from headstart.learn.save import write_network
from headstart.networks import Backbone

# Each fold of fine-tuning costs as much as a `fit`: one repeat.
FINETUNE_REPEATS = 1
# One of so many parts of a fold's training pictures validates its fine-tuning, as `validation_size` does in `fit`.
VALIDATION_PARTS = 6


def score_frozen(ground: Ground, choice: Choice, backbone: Backbone, x: np.ndarray, progress: Progress) -> Scored:
    """Fit the head on features and judge it, fold by fold.

    Args:
        ground: What all choices are compared on.
        choice: A head on a frozen backbone.
        backbone: The backbone.
        x: Its features of all pictures, float32 `(n, 1, d)`.
        progress: Is shown the fits.
    """
    dataset, y = ground.prepared.dataset, ground.targets
    head, sizes = make_head(choice.head), []

    def judge(fold: int, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return what the head says of held-out pictures, `(n, c)`, when it has learned from the others."""
        fitted = head.fit(
            x[inside], y[inside], len(dataset.classes), groups=ground.units[inside], seed=ground.seed_of(fold)
        )
        sizes.append(_megabytes(backbone.network, fitted.module))
        return probabilities(fitted.module, x[outside, 0], dataset.activation)

    with few_threads(x):
        return _score(ground, choice, ground.parts, judge, sizes, progress)


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
    kept, sizes = [], []

    def judge(fold: int, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return what the saved model says of held-out pictures, `(n, c)`, when it was tuned on the others."""
        network = replace(backbone, network=deepcopy(backbone.network))
        prepared = _fold(ground, inside, outside, fold)
        try:
            trained = fit_finetune(
                prepared, network, make_head(choice.head), how, TrainingSettings(), seed=ground.seed_of(fold)
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # a comparison has no `--resume` to tell of
        kept.append(bool(trained.gain and trained.gain["kept"]))
        sizes.append(_megabytes(trained.network))
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
        return named

    parts = ground.parts[: FINETUNE_REPEATS * ground.folds]
    scored = _score(ground, choice, parts, judge, sizes, progress)
    return replace(scored, tuned_folds=sum(kept))


def _score(
    ground: Ground,
    choice: Choice,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    judge: Callable[[int, np.ndarray, np.ndarray], np.ndarray],
    sizes: list[float],
    progress: Progress,
) -> Scored:
    """Fit and judge a choice on every fold: `judge` gives probabilities of the held-out pictures."""
    start, judged = time.perf_counter(), []
    with progress.step(choice.name, len(parts), "fits") as update:
        for fold, (inside, outside) in enumerate(parts):
            judged.append((ground.targets[outside], judge(fold, inside, outside)))
            update(fold + 1)
    seconds = time.perf_counter() - start
    folds, targets, right = fold_scores(judged), ground.targets[ground.judged], None
    if targets.ndim == 2:
        figure = precision_over_folds(folds, ground.test_share, targets.sum(axis=0))
    else:
        right = right_by_repeat(judged, [outside for _, outside in parts], len(targets))
        figure = accuracy_over_repeats(right, ground.units[ground.judged])
    return Scored(choice, folds, figure, log_loss(judged), sizes[0], seconds, right=right)


def _fold(ground: Ground, inside: np.ndarray, outside: np.ndarray, fold: int) -> Prepared:
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
