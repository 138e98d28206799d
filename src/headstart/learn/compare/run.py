"""`compare`: several backbones, heads and methods on the same splits of the same pictures.

Choosing uses the training and validation pictures alone, by repeated cross-validation in which no unit of pictures that
belong together is divided (`learn/split.py`). The test pictures are left for the one model that is fitted afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.errors import HeadstartError, SettingError, unknown_name
from headstart.core.labels import refuse_several_labels
from headstart.core.progress import Progress
from headstart.learn.compare.comparison import (
    ACCURACY,
    PRECISION,
    BackboneFacts,
    Choice,
    Comparison,
    Scored,
    order,
    recommend,
    test_pairs,
)
from headstart.learn.compare.cost import afford
from headstart.learn.compare.ground import Extracted, Ground, share_out
from headstart.learn.compare.score import score_finetuned, score_frozen
from headstart.learn.features.engines import choose_device, choose_precision
from headstart.learn.features.extract import FeatureSettings, extract
from headstart.learn.features.memory import check_memory
from headstart.learn.features.speed import measure_speeds
from headstart.learn.finetune.estimate import parse_seconds
from headstart.learn.heads import HEADS
from headstart.learn.prepare import prepare
from headstart.learn.several import SeveralLabels
from headstart.learn.shares import TEST_SIZE, VALIDATION_SIZE
from headstart.networks import Backbone, catalog, check_name, load_backbone

METHODS = ("frozen", "finetune")
FOLDS, REPEATS = 5, 5


def compare(
    data: Any,
    labels: Any = None,
    *,
    several: SeveralLabels | None = None,
    backbones: Sequence[str] = (catalog.DEFAULT,),
    heads: Sequence[str] = ("linear",),
    methods: Sequence[str] = ("frozen",),
    folds: int = FOLDS,
    repeats: int = REPEATS,
    validation_size: float = VALIDATION_SIZE,
    test_size: float = TEST_SIZE,
    seed: int = 0,
    budget: str | float | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Compare every combination of backbones, heads and methods by repeated cross-validation.

    Args:
        data: Folder, manifest, DataFrame, or pictures' paths with `labels`.
        labels: One label for each path, where `data` is a list of paths.
        several: How several labels of a picture are written, which are then compared by mean average precision; None
            where each has one class.
        backbones: Names of pretrained networks; each makes its features once.
        heads: `linear`, `mlp`, `prototype`; the last only where each picture has one class.
        methods: `frozen`, `finetune`; the second runs one repeat, and says what it costs first.
        folds: Parts of each repeat.
        repeats: How often the pictures are shared out anew.
        validation_size: As for `fit`: with the same data, shares and seed the same test pictures stay untouched.
        test_size: As for `fit`.
        seed: Of everything that is drawn.
        budget: Time that all fine-tuning may take by estimate, such as `10m`; what exceeds it is left out and named.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `auto`, `float32` or `bfloat16`, of the features.
        progress: Is shown the steps.

    Raises:
        SettingError: A name or number cannot work; all of them are told.
        WeightsError: The weights of a backbone cannot be had.
        DataError: The pictures cannot be learned from, or are too few to share out.
    """
    progress = progress or Progress()
    choices = _choices(backbones, heads, methods, several)
    allowed = _check(folds, repeats, budget, device, precision)
    with progress.step("load backbones"):
        loaded = _load(list(dict.fromkeys(choice.backbone for choice in choices)))
    shares = {"validation": validation_size, "test": test_size}
    prepared = prepare(data, labels, several=several, **shares, seed=seed, progress=progress)
    ground = share_out(prepared, folds, repeats, seed, progress)
    how = FeatureSettings(seed=seed, device=device, precision=precision)
    features, facts = _look(ground, loaded, how, progress)
    scored, left_out = _score_all(Extracted(ground, loaded, features, how), choices, allowed, progress)
    return _conclude(ground, scored, facts, left_out, repeats, progress)


def _score_all(
    seen: Extracted, choices: list[Choice], allowed: float | None, progress: Progress
) -> tuple[list[Scored], list[tuple[Choice, str]]]:
    """Return what was fitted and judged, frozen choices first, and what the budget does not allow."""
    scored = [
        score_frozen(seen.ground, choice, seen.backbones[choice.backbone], seen.features[choice.backbone], progress)
        for choice in choices
        if choice.method == "frozen"
    ]
    tuned = [choice for choice in choices if choice.method == "finetune"]
    affordable, left_out = afford(seen, tuned, allowed, progress)
    for choice in affordable:
        scored.append(score_finetuned(seen.ground, choice, seen.backbones[choice.backbone], seen.how, progress))
    if not scored:
        raise SettingError(f"nothing is left to compare: {left_out[0][0].name}: {left_out[0][1]}. Raise the budget.")
    return scored, left_out


def _conclude(
    ground: Ground,
    scored: list[Scored],
    facts: dict[str, BackboneFacts],
    left_out: list[tuple[Choice, str]],
    repeats: int,
    progress: Progress,
) -> Comparison:
    prepared, ordered = ground.prepared, order(scored)
    headline = PRECISION if prepared.dataset.several_labels else ACCURACY
    pairs = test_pairs(ordered, ground.test_share, ground.folds, ground.units[ground.judged])
    recommended, why = recommend(ordered, pairs, facts, headline)
    return Comparison(
        data=Path(prepared.dataset.source).name,
        classes=prepared.dataset.classes,
        headline=headline,
        pictures=len(ground.rows),
        untouched=0 if prepared.cross_validate else len(prepared.split.test),
        folds=ground.folds,
        repeats=repeats,
        scored=tuple(ordered),
        backbones=facts,
        pairs=tuple(pairs),
        left_out=tuple(left_out),
        recommended=recommended,
        why=why,
        seconds={name: round(seconds, 3) for name, seconds in progress.seconds.items()},
    )


def _choices(
    backbones: Sequence[str], heads: Sequence[str], methods: Sequence[str], several: SeveralLabels | None
) -> list[Choice]:
    """Return every combination; every name that does not exist is told at once."""
    problems = []
    for names, what in ((backbones, "backbone"), (heads, "head"), (methods, "method")):
        if not names or len(set(names)) < len(names):
            problems.append(f"{what}s is {','.join(names)!r}: give one or more names, each once.")
    for name in backbones:
        try:
            check_name(name)
        except SettingError as error:
            problems.append(str(error))
    for names, what, known in ((heads, "head", tuple(HEADS)), (methods, "method", METHODS)):
        problems += [
            str(unknown_name(what, name, known, "`headstart compare --help`")) for name in names if name not in known
        ]
    if several is not None and "prototype" in heads:
        try:
            refuse_several_labels("multilabel", "head prototype")
        except SettingError as error:
            problems.append(str(error))
    if problems:
        raise SettingError("\n  ".join(problems))
    return [Choice(backbone, head, method) for backbone in backbones for method in methods for head in heads]


def _check(folds: int, repeats: int, budget: str | float | None, device: str, precision: str) -> float | None:
    if folds < 2 or repeats < 1:
        raise SettingError(f"folds is {folds} and repeats is {repeats}: give at least 2 folds and 1 repeat.")
    choose_precision(precision, choose_device(device))
    return None if budget is None else parse_seconds(budget)


def _load(names: list[str]) -> dict[str, Backbone]:
    """Load all backbones before any work; what is wrong with several is told together."""
    loaded: dict[str, Backbone] = {}
    problems: list[HeadstartError] = []
    for name in names:
        try:
            loaded[name] = load_backbone(name)
        except HeadstartError as error:
            problems.append(error)
    if problems:
        raise type(problems[0])("\n  ".join(map(str, problems)))
    return loaded


def _look(
    ground: Ground, loaded: dict[str, Backbone], how: FeatureSettings, progress: Progress
) -> tuple[dict[str, np.ndarray], dict[str, BackboneFacts]]:
    """Return the features of all pictures, float32 `(n, 1, d)`, by backbone, and what each backbone costs."""
    pictures, found, networks = ground.pictures, {}, []
    check_memory(len(pictures), how.views, *(backbone.num_features for backbone in loaded.values()))
    for name, backbone in loaded.items():
        features = extract(pictures, backbone, how, progress=progress)
        found[name] = features.read()
        # In the precision that was found fit for use, so that it need not be tried again.
        networks.append((backbone, replace(how, precision=features.precision)))
    with progress.step("measure speed"):
        speeds = measure_speeds(pictures, networks)
    return found, {
        name: BackboneFacts(
            name, speed, backbone.preprocessing.image_size, backbone.weights.licence, backbone.weights.source
        )
        for (name, backbone), speed in zip(loaded.items(), speeds, strict=True)
    }
