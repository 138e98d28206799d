"""`compare`: several backbones, heads and methods on the same splits of the same pictures.

Choosing uses the training and validation pictures alone, by repeated cross-validation in which no unit of pictures that
belong together is divided (`learn/split.py`). The test pictures are left for the one model that is fitted afterwards.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.core import pictures as sources
from headstart.core.errors import DataError, HeadstartError, SettingError, unknown_name
from headstart.core.progress import Progress
from headstart.learn.comparison import (
    BackboneFacts,
    Choice,
    Comparison,
    Scored,
    accuracy_over_repeats,
    order,
    recommend,
    test_pairs,
)
from headstart.learn.features.engines import choose_device, choose_precision
from headstart.learn.features.extract import FeatureSettings, extract
from headstart.learn.features.memory import check_memory
from headstart.learn.features.speed import measure_speeds
from headstart.learn.finetune.checkpoint import discard
from headstart.learn.finetune.estimate import parse_seconds, seconds_needed
from headstart.learn.finetune.settings import TrainingSettings, complete
from headstart.learn.finetune.source import Pictures
from headstart.learn.finetune.unfreezing import plan
from headstart.learn.heads import HEADS, make_head
from headstart.learn.heads.folds import deal_folds
from headstart.learn.heads.threads import few_threads
from headstart.learn.methods.finetune import fit_finetune
from headstart.learn.methods.frozen import probabilities
from headstart.learn.prepare import Prepared, prepare
from headstart.learn.save import write_network
from headstart.learn.several import seems_several
from headstart.learn.split import cross_validation_folds
from headstart.networks import Backbone, check_name, load_backbone

METHODS = ("frozen", "finetune")
FOLDS, REPEATS = 5, 5
# Each fold of fine-tuning costs as much as a `fit`: one repeat.
FINETUNE_REPEATS = 1
# One of so many parts of a fold's training pictures validates its fine-tuning, as `validation_size` does in `fit`.
VALIDATION_PARTS = 6


@dataclass(frozen=True, eq=False)
class Ground:
    """What all choices are compared on.

    Attributes:
        prepared: The pictures and their split.
        rows: int64 `(n,)`, the pictures that are shared out, as indices into the dataset.
        parts: Indices into `rows`: training and held-out pictures of each fold, repeat after repeat.
        folds: Folds of one repeat.
        seed: Of everything that is drawn.
    """

    prepared: Prepared
    rows: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    folds: int
    seed: int

    @property
    def targets(self) -> np.ndarray:
        """The classes of the pictures, int64 `(n,)`."""
        return np.asarray(self.prepared.dataset.targets[self.rows])

    @property
    def units(self) -> np.ndarray:
        """Equal numbers for pictures that are never divided, int64 `(n,)`."""
        return np.asarray(self.prepared.split.units[self.rows])

    @property
    def pictures(self) -> Pictures:
        """Paths and digests of the pictures."""
        dataset, records = self.prepared.dataset, self.prepared.records
        return Pictures(tuple(dataset.paths[row] for row in self.rows), tuple(records[row].digest for row in self.rows))


def compare(
    data: Any,
    labels: Any = None,
    *,
    backbones: Sequence[str] = ("efficientnet_lite0",),
    heads: Sequence[str] = ("linear",),
    methods: Sequence[str] = ("frozen",),
    folds: int = FOLDS,
    repeats: int = REPEATS,
    validation_size: float = 0.15,
    test_size: float = 0.2,
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
        backbones: Names of pretrained networks; each makes its features once.
        heads: `linear`, `mlp`, `prototype`.
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
    choices = _choices(backbones, heads, methods)
    allowed = _check(folds, repeats, budget, device, precision)
    with progress.step("load backbones"):
        loaded = _load(list(dict.fromkeys(choice.backbone for choice in choices)))
    prepared = prepare(data, labels, validation=validation_size, test=test_size, seed=seed, progress=progress)
    if one := seems_several(prepared.dataset.classes):
        raise DataError(
            f"a comparison needs one class for each picture, and {one!r} in {prepared.dataset.source} looks like "
            "several labels. If it is one class, name it without ';'; else compare fits with `--output multilabel`."
        )
    ground = _share_out(prepared, folds, repeats, seed)
    how = FeatureSettings(seed=seed, device=device, precision=precision)
    features, facts = _look(ground, loaded, how, progress)
    scored, left_out = _score_all(ground, choices, loaded, features, how, allowed, progress)
    return _conclude(ground, scored, facts, left_out, repeats, progress)


def _score_all(
    ground: Ground,
    choices: list[Choice],
    loaded: dict[str, Backbone],
    features: dict[str, np.ndarray],
    how: FeatureSettings,
    allowed: float | None,
    progress: Progress,
) -> tuple[list[Scored], list[tuple[Choice, str]]]:
    """Return what was fitted and judged, frozen choices first, and what the budget does not allow."""
    scored = [
        _score_frozen(ground, choice, loaded[choice.backbone], features[choice.backbone], progress)
        for choice in choices
        if choice.method == "frozen"
    ]
    tuned = [choice for choice in choices if choice.method == "finetune"]
    affordable, left_out = _afford(ground, tuned, loaded, features, how, allowed, progress)
    for choice in affordable:
        scored.append(_score_finetuned(ground, choice, loaded[choice.backbone], how, progress))
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
    share = float(np.mean([len(outside) / len(inside) for inside, outside in ground.parts]))
    pairs = test_pairs(ordered, share, ground.folds)
    recommended, why = recommend(ordered, pairs, facts)
    return Comparison(
        data=Path(prepared.dataset.source).name,
        classes=prepared.dataset.classes,
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


def _choices(backbones: Sequence[str], heads: Sequence[str], methods: Sequence[str]) -> list[Choice]:
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


def _share_out(prepared: Prepared, folds: int, repeats: int, seed: int) -> Ground:
    rows = np.sort(np.asarray(prepared.training_rows(), np.int64))
    parts = cross_validation_folds(prepared.dataset, prepared.records, rows, folds=folds, repeats=repeats, seed=seed)
    inside = tuple((np.searchsorted(rows, a), np.searchsorted(rows, b)) for a, b in parts)
    return Ground(prepared, rows, inside, len(parts) // repeats, seed)


def _look(
    ground: Ground, loaded: dict[str, Backbone], how: FeatureSettings, progress: Progress
) -> tuple[dict[str, np.ndarray], dict[str, BackboneFacts]]:
    """Return the features of all pictures, float32 `(n, 1, d)`, by backbone, and what each backbone costs."""
    pictures, found, networks = ground.pictures, {}, []
    check_memory(len(pictures.paths), how.views, sum(backbone.num_features for backbone in loaded.values()))
    for name, backbone in loaded.items():
        features = extract(pictures.paths, backbone, how, digests=pictures.digests, progress=progress)
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


def _score_frozen(ground: Ground, choice: Choice, backbone: Backbone, x: np.ndarray, progress: Progress) -> Scored:
    dataset, y = ground.prepared.dataset, ground.targets
    head, sizes = make_head(choice.head), []

    def judge(fold: int, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return what the head says of held-out pictures, `(n, c)`, when it has learned from the others."""
        fitted = head.fit(
            x[inside], y[inside], len(dataset.classes), groups=ground.units[inside], seed=_seed(ground, fold)
        )
        sizes.append(_megabytes(backbone.network, fitted.module))
        return probabilities(fitted.module, x[outside, 0])

    with few_threads(x):
        return _score(ground, choice, ground.parts, judge, sizes, progress)


def _score_finetuned(
    ground: Ground, choice: Choice, backbone: Backbone, how: FeatureSettings, progress: Progress
) -> Scored:
    kept, sizes = [], []

    def judge(fold: int, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return what the saved model says of held-out pictures, `(n, c)`, when it was tuned on the others."""
        network = replace(backbone, network=deepcopy(backbone.network))
        prepared = _fold(ground, inside, outside, fold)
        try:
            trained = fit_finetune(
                prepared, network, make_head(choice.head), how, TrainingSettings(), seed=_seed(ground, fold)
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
    start, accuracies, right, losses = time.perf_counter(), [], 0, 0.0
    with progress.step(choice.name, len(parts), "fits") as update:
        for fold, (inside, outside) in enumerate(parts):
            named, y = judge(fold, inside, outside), ground.targets[outside]
            hits = named.argmax(axis=1) == y
            accuracies.append(float(hits.mean()))
            right += int(hits.sum())
            own = named[np.arange(len(y)), y].astype(np.float64)
            losses -= float(np.log(np.maximum(own, np.finfo(np.float32).eps)).sum())
            update(fold + 1)
    judged = sum(len(outside) for _, outside in parts)
    return Scored(
        choice,
        np.array(accuracies),
        accuracy_over_repeats(right, judged, len(ground.rows)),
        losses / judged,
        sizes[0],
        time.perf_counter() - start,
    )


def _afford(
    ground: Ground,
    choices: list[Choice],
    loaded: dict[str, Backbone],
    features: dict[str, np.ndarray],
    how: FeatureSettings,
    allowed: float | None,
    progress: Progress,
) -> tuple[list[Choice], list[tuple[Choice, str]]]:
    """Say what fine-tuning will cost, and return what the budget allows and what it does not, with the reason."""
    affordable: list[Choice] = []
    left_out: list[tuple[Choice, str]] = []
    costs: dict[str, float] = {}
    spent, fits = 0.0, FINETUNE_REPEATS * ground.folds
    for choice in choices:
        with progress.step("estimate fine-tuning"):
            if choice.backbone not in costs:  # a head costs next to nothing
                backbone = loaded[choice.backbone]
                costs[choice.backbone] = fits * _seconds(ground, backbone, choice, features[choice.backbone], how)
        needed = costs[choice.backbone]
        if allowed is not None and spent + needed > allowed:
            left_out.append((choice, f"it would take about {needed:.0f} s, more than is left of the budget"))
            progress.note(f"{choice.name} is left out: {left_out[-1][1]} of {allowed:.0f} s.")
            continue
        spent += needed
        affordable.append(choice)
        progress.note(f"{choice.name} takes about {needed:.0f} s of training ({fits} fits); a budget sets a limit.")
    return affordable, left_out


def _seconds(ground: Ground, backbone: Backbone, choice: Choice, x: np.ndarray, how: FeatureSettings) -> float:
    """Return about how long one fold of fine-tuning takes."""
    inside, classes = ground.parts[0][0], len(ground.prepared.dataset.classes)
    fitted = make_head(choice.head).fit(
        x[inside], ground.targets[inside], classes, groups=ground.units[inside], seed=ground.seed
    )
    settings = complete(TrainingSettings(), len(inside), backbone.stages)
    layers = plan(backbone, settings.unfreeze if settings.unfreeze is not None else "all")
    pictures = ground.pictures
    train = Pictures(*(tuple(values[row] for row in inside) for values in (pictures.paths, pictures.digests)))
    device = torch.device(choose_device(how.device))
    return seconds_needed(backbone, fitted.module, layers, settings, how, train, device)


def _fold(ground: Ground, inside: np.ndarray, outside: np.ndarray, fold: int) -> Prepared:
    """Return the data of one fold, as if its held-out pictures were the test pictures."""
    dealt = deal_folds(ground.targets[inside], ground.units[inside], VALIDATION_PARTS, _seed(ground, fold))
    split = replace(
        ground.prepared.split,
        train=ground.rows[inside[dealt != 0]],
        validation=ground.rows[inside[dealt == 0]],
        test=ground.rows[outside],
    )
    return replace(ground.prepared, split=split, cross_validate=False)


def _seed(ground: Ground, fold: int) -> int:
    """Return the seed of a fit: another one in each repeat."""
    return ground.seed + fold // ground.folds


def _megabytes(*modules: torch.nn.Module) -> float:
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e6
