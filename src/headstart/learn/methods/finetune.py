"""Fine-tuning from the head outwards: fit the head on cached features, then train on from there (LP-FT).

Starting from a fitted head keeps the features from being distorted by a random one (Kumar et al. 2022,
arXiv:2202.10054). The tuned network is kept only where validation prefers it to the frozen start.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from headstart.core.errors import SettingError, TrainingError
from headstart.core.labels import paired_bootstrap
from headstart.core.metrics import Evaluation, evaluate, mcnemar
from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.learn import runs
from headstart.learn.augment import Augmentation
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune import checkpoint, precision
from headstart.learn.finetune.estimate import seconds_needed
from headstart.learn.finetune.loop import (
    Job,
    OnEpoch,
    Result,
    as_inputs,
    short_memory_is_explained,
    train,
    validation_logits,
)
from headstart.learn.finetune.loss import scaled_weights
from headstart.learn.finetune.mixing import has_rectangles
from headstart.learn.finetune.optimizer import parameter_groups
from headstart.learn.finetune.settings import TrainingSettings, complete
from headstart.learn.finetune.source import Pictures, Source, open_sources
from headstart.learn.finetune.unfreezing import POOL, Plan, apply_phase, frozen_tensors, module_name, plan
from headstart.learn.heads import ClassWeight, Head
from headstart.learn.methods.frozen import fit_frozen
from headstart.learn.methods.trained import Trained
from headstart.learn.prepare import Prepared
from headstart.networks import Backbone, faster, suffix
from headstart.networks.export import ACTIVATIONS, Classifier
from headstart.networks.freezing import hash_tensors

DEFAULT_VIEWS = 4


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be fine-tuned, with everything decided.

    Attributes:
        prepared: The pictures and their split.
        backbone: Its upper stages will change.
        layers: Where it is cut and what learns when.
        start: The frozen backbone with its fitted head.
        how: Views, augmentation, device and precision below the cut.
        settings: Complete settings of the loop.
        class_weight: None, `balanced`, or a weight for each class index.
        seed: Of everything that is drawn.
        device: Where training is.
    """

    prepared: Prepared
    backbone: Backbone
    layers: Plan
    start: Trained
    how: FeatureSettings
    settings: TrainingSettings
    class_weight: ClassWeight
    seed: int
    device: torch.device


def fit_finetune(
    prepared: Prepared,
    backbone: Backbone,
    head: Head,
    how: FeatureSettings,
    training: TrainingSettings,
    *,
    class_weight: ClassWeight = None,
    seed: int = 0,
    budget: float | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Fit the head on the frozen backbone, then train head and upper stages together.

    Args:
        prepared: The pictures and their split.
        backbone: Its upper stages are changed, unless the frozen start is kept.
        head: The kind of head and its settings.
        how: Views, augmentation, device and precision of what lies below the cut.
        training: Settings of the loop; what is None follows the size of the data.
        class_weight: None, `balanced`, or a weight for each class index.
        seed: Of everything that is drawn.
        budget: Seconds that training may take by estimate, else the frozen backbone is kept; None is no limit.
        resume: Whether to continue from the checkpoint of an earlier run with the same data and settings.
        progress: Is shown the steps, and told what was gained.
        on_epoch: Called with each epoch's row.

    Raises:
        TrainingError: The loss explodes or memory is short.
        SettingError: `unfreeze` does not suit the backbone.
        CacheError: The checkpoint cannot be read or written.
    """
    progress = progress or Progress()
    settings = complete(training, len(prepared.split.train), backbone.stages)
    layers = plan(backbone, settings.unfreeze if settings.unfreeze is not None else "all")
    settings = replace(settings, epochs=layers.epochs or settings.epochs)
    start = fit_frozen(
        prepared, backbone, head, replace(how, views=1), class_weight=class_weight, seed=seed, progress=progress
    )
    if start.validation is None:
        progress.note("There are too few pictures to validate fine-tuning: the frozen backbone is kept.")
        return start
    # bfloat16 is not there, or was refused for the whole network; never because float32 happened to be in the cache.
    if start.features["precision"] == "float32":
        how = replace(how, precision="float32")
    how = choose_views(how, int(settings.epochs or 1), pixels=layers.cut == backbone.stages[0], progress=progress)
    device = torch.device(choose_device(how.device))
    task = Task(prepared, backbone, layers, start, how, settings, class_weight, seed, device)
    folder = checkpoint.run_folder(identity(task, head))
    begun = resume and checkpoint.exists(folder)
    if budget is not None and not begun and _is_too_long(task, budget, progress):
        return start
    about = {"data": Path(prepared.dataset.source).name, "backbone": backbone.name, "cut": layers.cut}
    with runs.held(folder, {**about, "epochs": settings.epochs}):
        return finetune(task, folder, resume, progress, on_epoch)


def _is_too_long(task: Task, budget: float, progress: Progress) -> bool:
    """Whether training would, by estimate, take more seconds than the budget; say so."""
    train_pictures = _pictures(task.prepared, task.prepared.split.train)
    needed = seconds_needed(
        task.backbone, task.start.start, task.layers, task.settings, task.how, train_pictures, task.device
    )
    if needed > budget:
        progress.note(
            f"Fine-tuning would take about {needed:.0f} s, more than the budget of {budget:.0f} s: the frozen "
            "backbone is kept. Raise the budget, or choose method finetune."
        )
    return needed > budget


def finetune(task: Task, folder: Path, resume: bool, progress: Progress, on_epoch: OnEpoch | None = None) -> Trained:
    """Train on from the fitted head, prove that what is frozen did not move, and keep what validation prefers.

    Args:
        task: What is to be fine-tuned.
        folder: Where checkpoints go.
        resume: Whether to continue from the checkpoint there.
        progress: Is shown the steps, and told what was gained.
        on_epoch: Called with each epoch's row.

    Raises:
        TrainingError: The loss explodes or memory is short.
        CacheError: The checkpoint cannot be read or written.
    """
    checkpoint.discard_old()
    before = copy.deepcopy(task.backbone.network).cpu()
    frozen_before = hash_tensors(_frozen(task))
    job, settings = make_job(task, progress)
    try:
        result = train(
            job, settings, seed=task.seed, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch
        )
    finally:
        faster.restore(job.network)
    job.network.load_state_dict(result.best)
    if hash_tensors(_frozen(task)) != frozen_before:
        raise TrainingError("layers that should stay frozen have changed: nothing is saved. Please report this.")
    with short_memory_is_explained(settings):
        tuned, said = judge(job, task)
    job.network.cpu()
    task.backbone.network.cpu()
    trained = choose(task, before, job.network, settings, result, tuned, said, progress)
    return replace(trained, run_folder=folder)


def choose_views(how: FeatureSettings, epochs: int, *, pixels: bool, progress: Progress) -> FeatureSettings:
    """Return the settings with the number of views that training uses.

    Views beyond the epochs are never seen. One view is the plain picture: where augmentation is wanted there are as
    many views as epochs on pixels, which costs nothing, and else `DEFAULT_VIEWS`, which take turns.
    """
    if how.views > 1 or how.augmentation == Augmentation():
        return replace(how, views=min(how.views, epochs))
    views = epochs if pixels else min(epochs, DEFAULT_VIEWS)
    progress.note(f"Each training picture is seen in {views} views, which take turns over {epochs} epochs.")
    return replace(how, views=views)


def identity(task: Task, head: Head) -> dict[str, Any]:
    """Return all that a run's weights depend on: a checkpoint is continued only where all of it is equal."""
    prepared, backbone = task.prepared, task.backbone
    settings = asdict(task.settings)
    del settings["checkpoint_seconds"]
    return {
        "train": _digest(prepared, prepared.split.train),
        "validation": _digest(prepared, prepared.split.validation),
        "backbone": backbone.name,
        "weights": backbone.weights.identity,
        "pooling": backbone.pooling,
        "preprocessing": backbone.preprocessing.to_json(),
        "layers": asdict(task.layers),
        "head": [type(head).__name__, asdict(head) if is_dataclass(head) and not isinstance(head, type) else None],
        "features": asdict(task.how),
        "settings": settings,
        "class_weight": task.class_weight,
        "seed": task.seed,
        "torch": torch.__version__,
    }


def make_job(task: Task, progress: Progress) -> tuple[Job, TrainingSettings]:
    """Return the job of the loop, and the settings with a precision.

    Raises:
        SettingError: There is nothing that could learn.
    """
    dataset, split = task.prepared.dataset, task.prepared.split
    backbone, layers, settings, device = task.backbone, task.layers, task.settings, task.device
    training, validation = open_sources(
        _pictures(task.prepared, split.train),
        _pictures(task.prepared, split.validation),
        backbone,
        task.how,
        layers.cut,
        progress,
    )
    upper = backbone.network if training.kind == "pixels" else suffix(backbone, layers.cut)
    top = copy.deepcopy(task.start.start).requires_grad_(True)
    network = nn.Sequential(upper, top).to(device).to(memory_format=torch.channels_last)

    def start_epoch(epoch: int) -> None:
        apply_phase(backbone, layers.phase(epoch), batch_norm=settings.batch_norm)

    def one_hot(rows: np.ndarray) -> torch.Tensor:
        targets = torch.from_numpy(dataset.targets[rows])
        return (targets if dataset.several_labels else functional.one_hot(targets, classes)).float().to(device)

    classes = len(dataset.classes)
    weights = scaled_weights(task.class_weight, dataset.targets[split.train], classes)
    job = Job(
        network=network,
        groups=parameter_groups(backbone, layers, top, settings),
        train=training,
        validation=validation,
        targets=one_hot(split.train),
        validation_targets=one_hot(split.validation),
        loss=dataset.activation,
        class_weights=None if weights is None else weights.to(device),
        start_epoch=start_epoch,
        device=device,
    )
    if not any(group["params"] for group in job.groups):
        raise SettingError("unfreeze leaves nothing to learn: this head has no parameters. Unfreeze a stage.")
    start_epoch(0)
    sample = _first_batch(training, min(len(split.train), settings.batch_size))
    if settings.cutmix and not has_rectangles(sample.ndim):
        progress.note(f"CutMix needs maps, and the inputs of {layers.cut} are tokens: it is off. mixup works there.")
    faster.speed_up(network, as_inputs(sample[:1], device))
    name = checkpoint.run_folder({**_network_identity(task), "batch": sample.shape}).name
    return job, replace(settings, precision=precision.choose(settings.precision, network, sample, device, name))


def judge(job: Job, task: Task) -> tuple[Evaluation, Outcomes]:
    """Return the figures of the trained network on validation, and what it said of each picture."""
    dataset, rows = task.prepared.dataset, task.prepared.split.validation
    logits = torch.cat([part for _, part in validation_logits(job)])
    named = ACTIVATIONS[dataset.activation](logits).cpu().numpy()
    targets = dataset.targets[rows]
    said = Outcomes(dataset.classes, tuple(dataset.paths[row] for row in rows), targets, named)
    return evaluate(targets, named, dataset.classes, seed=task.seed), said


def choose(
    task: Task,
    before: nn.Module,
    network: nn.Module,
    settings: TrainingSettings,
    result: Result,
    tuned: Evaluation,
    said: Outcomes,
    progress: Progress,
) -> Trained:
    """Keep the tuned network where validation prefers it, else the frozen start; say what was gained.

    Args:
        task: What was fine-tuned; gets its backbone back as it was where the frozen start is kept.
        before: The backbone's network as it was.
        network: The trained part of the backbone, and the head.
        settings: As training used them.
        result: Of the loop.
        tuned: Figures of the trained network on validation.
        said: What it said of the validation pictures.
        progress: Is told.
    """
    start, backbone = task.start, task.backbone
    assert start.validation is not None  # `fit_finetune` has made sure
    assert start.held_out is not None
    old, new = start.validation.figures, tuned.figures
    was, now = old[tuned.headline].value, new[tuned.headline].value
    test, p = _paired_test(start.held_out, said, task.seed)
    kept = is_better(tuned, start.validation)
    gain = {
        "figure": tuned.headline,
        "frozen": was,
        "finetuned": now,
        "p": p,
        "n": tuned.n,
        "kept": kept,
        "precision": settings.precision,
    }
    verdict = "a real difference" if p < 0.05 else "chance alone can do that"
    progress.note(
        f"Fine-tuning: validation {tuned.headline.replace('_', ' ')} {was:.3f} -> {now:.3f} on {tuned.n:,} pictures "
        f"({test} p = {p:.2g}: {verdict}); the {'fine-tuned' if kept else 'frozen'} backbone is kept."
    )
    if not kept:
        backbone.network.load_state_dict(before.state_dict())
        return replace(start, history=result.history, gain=gain)
    head = network.get_submodule("1")
    return replace(
        start,
        network=Classifier(backbone.network, head, activation=start.network.activation),
        chosen={**start.chosen, **asdict(settings), "cut": task.layers.cut},
        validation=tuned,
        held_out=said,
        crossed=None,
        history=result.history,
        moved=tuple(distances(before, start.start, backbone, head)),
        gain=gain,
        graph=None,  # it is that of the backbone as it was
    )


def _paired_test(frozen: Outcomes, tuned: Outcomes, seed: int) -> tuple[str, float]:
    """Return the name and the p of the test that suits what was said of the same validation pictures."""
    if tuned.several_labels:
        return "bootstrap", paired_bootstrap(tuned.targets, frozen.probabilities, tuned.probabilities, seed)[1]
    return "McNemar", mcnemar(frozen.right, tuned.right)[1]


def is_better(new: Evaluation, old: Evaluation) -> bool:
    """Whether more pictures are named right, or as many more surely; of several labels by their average precision."""
    one, two = ((e.figures[e.headline].value, -e.figures["log_loss"].value) for e in (new, old))
    return one > two


def distances(before: nn.Module, head_before: nn.Module, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    """Return how far each stage, and the head, moved.

    Returns:
        Rows with the name of the `stage`, how far it `moved` (norm of the change over the norm of what was there),
        and whether it is `untouched`, every bit of it.
    """
    names = {**{stage: module_name(stage) for stage in backbone.stages}, POOL: POOL}
    pairs = {stage: (before.get_submodule(n), backbone.network.get_submodule(n)) for stage, n in names.items()}
    rows = []
    for stage, modules in {**pairs, "head": (head_before, head)}.items():
        old, new = (module.state_dict() for module in modules)
        if not old:  # pooling alone has nothing that could move
            continue
        floats = [name for name in old if old[name].is_floating_point()]
        change = sum(float((new[name] - old[name]).double().square().sum()) for name in floats) ** 0.5
        size = sum(float(old[name].double().square().sum()) for name in floats) ** 0.5
        untouched = all(torch.equal(old[name], new[name]) for name in old)
        rows.append({"stage": stage, "moved": change / size if size else 0.0, "untouched": untouched})
    return rows


def _frozen(task: Task) -> dict[str, torch.Tensor]:
    return frozen_tensors(task.backbone, task.layers, batch_norm=task.settings.batch_norm)


def _pictures(prepared: Prepared, rows: np.ndarray) -> Pictures:
    return Pictures(
        tuple(prepared.dataset.paths[row] for row in rows), tuple(prepared.records[row].digest for row in rows)
    )


def _digest(prepared: Prepared, rows: Sequence[int] | np.ndarray) -> str:
    """A hash of the pictures' bytes and labels in their order, which the order of the steps follows."""
    lines = [f"{prepared.records[row].digest} {prepared.dataset.targets[row].tolist()}" for row in rows]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _network_identity(task: Task) -> dict[str, Any]:
    """What the speed of a step depends on."""
    names = (task.backbone.name, task.backbone.preprocessing.image_size, task.layers.cut, task.backbone.pooling)
    return {"network": names, "faster": faster.VERSION, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _first_batch(source: Source, count: int) -> np.ndarray:
    return next(iter(source.batches([np.arange(count)], 0)))
