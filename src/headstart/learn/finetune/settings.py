"""How fine-tuning is done, and the rule that sets what the user does not: from the size of the data alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from headstart.core.errors import SettingError
from headstart.learn import other_names
from headstart.learn.kinds import is_number, is_text, is_whole, plain_number
from headstart.learn.other_names import unknown_setting

CHOICES = {
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("cosine", "step", "plateau", "constant"),
    "batch_norm": ("frozen", "train"),
    "precision": ("auto", "float32", "bfloat16"),
}
Unfreeze = int | str | list[Any] | tuple[Any, ...]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of the training loop; None is filled in by `complete`.

    Attributes:
        unfreeze: The last N layers with parameters, a stage name, `all`, `head` (nothing but the head), or stage by
            stage as a list of `(one of these, epochs)` pairs, such as `[("head", 2), ("blocks.6", 3), (12, 5)]`. Each
            pair is a phase: warm-up, schedule and patience begin anew in it.
        epochs: Passes over the training pictures; left out where `unfreeze` is a list, which says it itself.
        batch_size: Pictures a step.
        learning_rate: Of the head, at its peak.
        backbone_learning_rate: Of the topmost unfrozen stage, at its peak; None is three tenths of the head's.
        layer_decay: Factor of the learning rate from each stage to the one below (Howard and Ruder 2018,
            arXiv:1801.06146, section 3.1, "discriminative fine-tuning"); None is 1 where at most five stages learn
            (docs/experiments.md: the backbone is slower than the head already), and 0.8 where more do.
        optimizer: `adamw` (Loshchilov and Hutter 2019, arXiv:1711.05101), `adam` or `sgd`.
        momentum: Of `sgd`.
        weight_decay: Of the weights; not of biases and normalisation.
        schedule: After the warm-up: `cosine` to 0 (arXiv:1608.03983), `step`, `plateau` or `constant`.
        warmup: Share of the steps of a phase over which the rate rises from 0.
        step_epochs, step_factor: Of `step`: every so many epochs the rate is multiplied by the factor; `plateau`
            multiplies by the factor whenever validation has not improved for two epochs.
        label_smoothing: Share of each target that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).
        mixup: Alpha of mixup (Zhang et al. 2018, arXiv:1710.09412); above a cached prefix it mixes activations
            (manifold mixup, Verma et al. 2019, arXiv:1806.05236). 0 is off.
        cutmix: Alpha of CutMix (Yun et al. 2019, arXiv:1905.04899), on pixels or on maps of activations. 0 is off.
        ema: Decay of the exponential moving average of the weights that is validated and kept, such as 0.99: it
            spans about `1 / (1 - ema)` steps, and fewer at first (`schedule.average_decay`). 0 is off.
        clip_norm: Largest norm of all gradients together; 0 is off.
        patience: Epochs without a better validation of the phase before the next phase begins, or training stops; 0
            never stops early.
        batch_norm: `frozen` keeps the pretrained statistics of unfrozen stages too; `train` updates them.
        precision: `float32`, `bfloat16` (autocast), or `auto`: what a short trial finds faster.
        checkpoint_seconds: A checkpoint is written at least this often, besides the one after every epoch. It changes
            nothing in the result.
    """

    unfreeze: Unfreeze | None = None
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    backbone_learning_rate: float | None = None
    layer_decay: float | None = None
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.1
    step_epochs: int = 7
    step_factor: float = 0.1
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    clip_norm: float = 1.0
    patience: int = 0
    batch_norm: str = "frozen"
    precision: str = "auto"
    checkpoint_seconds: float = 120.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}."
            for name, choices in CHOICES.items()
            if getattr(self, name) not in choices
        ]
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _LEFT_OPEN:
                continue
            whole = name in _WHOLE
            if not (is_whole(value) if whole else is_number(value)) or not low <= value <= high:
                problems.append(f"{name} is {value!r}: give a {'whole ' * whole}number from {low:g} to {high:g}.")
        if self.unfreeze is not None:
            try:
                check_unfreeze(self.unfreeze)
            except SettingError as error:
                problems.append(str(error))
        if problems:
            raise SettingError("training: " + " ".join(problems))


def check_unfreeze(wanted: Any) -> None:
    """Raise SettingError if this cannot say what learns; whether the backbone has it, `unfreezing.plan` finds."""
    if not isinstance(wanted, (list, tuple)):
        _check_layers(wanted)
        return
    if not wanted:
        raise SettingError("unfreeze is empty: give a stage, 'all', 'head', a number, or (stage, epochs) pairs.")
    for pair in wanted:
        epochs = pair[1] if isinstance(pair, (list, tuple)) and len(pair) == 2 else 0
        if not is_whole(epochs) or epochs < 1:
            raise SettingError(
                f"unfreeze has {pair!r}: give pairs of a stage and a number of epochs, such as ('layer4', 3)."
            )
        _check_layers(pair[0])


def _check_layers(wanted: Any) -> None:
    if not (is_whole(wanted) or is_text(wanted)):
        raise SettingError(
            f"unfreeze is {wanted!r}: give a number of layers, a stage name, 'all', 'head', or a list of pairs of one "
            "of these and a number of epochs."
        )


_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (1, 100_000),
    "learning_rate": (0.0, 100.0),
    "backbone_learning_rate": (0.0, 100.0),
    "layer_decay": (0.0, 1.0),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 10.0),
    "warmup": (0.0, 0.9),
    "step_epochs": (1, 100_000),
    "step_factor": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "mixup": (0.0, 10.0),
    "cutmix": (0.0, 10.0),
    "ema": (0.0, 0.99999),
    "clip_norm": (0.0, 1e6),
    "patience": (0, 100_000),
    "checkpoint_seconds": (0.0, 1e6),
}
_WHOLE = ("epochs", "batch_size", "step_epochs", "patience")
_LEFT_OPEN = ("epochs", "learning_rate", "backbone_learning_rate", "layer_decay")


def make_settings(values: dict[str, Any] | TrainingSettings | None) -> TrainingSettings:
    """Return the settings given by name, with Python's numbers also where numpy's are given.

    Whole numbers may be written as floats, as a command line gives them.

    Raises:
        SettingError: A name does not exist or a value is impossible.
    """
    if isinstance(values, TrainingSettings):
        return values
    known = [field.name for field in fields(TrainingSettings)]
    for name in values or {}:
        if name not in known:
            raise unknown_setting("training setting", name, known, other_names.TRAINING)
    given = {name: _plain(name, value) for name, value in (values or {}).items()}
    if isinstance(given.get("unfreeze"), (list, tuple)) and given.get("epochs") is not None:
        raise SettingError(
            f"training: epochs is {given['epochs']!r}, but unfreeze is a list that says its epochs: leave epochs out."
        )
    return TrainingSettings(**given)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        parts = [_plain(name, one) for one in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    value = plain_number(value)
    return int(value) if name in _WHOLE and isinstance(value, float) and value.is_integer() else value


def complete(settings: TrainingSettings, pictures: int, stages: tuple[str, ...]) -> TrainingSettings:
    """Return the settings with everything that is None filled in from the number of training pictures.

    As in BiT's HyperRule (Kolesnikov et al. 2020, arXiv:1912.11370, section 3.3) only the size of the data decides,
    so that no search is needed: more pictures allow more layers and need fewer passes. The numbers are ours, since
    BiT's (500 steps of 512 pictures at the least) are days of a laptop.

    | training pictures | unfrozen, of the stages | epochs |
    |---|---|---|
    | below 500 | the upper third | 15 |
    | 500 to 5,000 | the upper half | 10 |
    | above | the upper half | 5 |

    Halves and thirds are rounded to whole stages, halves upwards, and are at least one: of efficientnet_lite0's nine
    stages three (from `blocks.5`) or five (from `blocks.3`), of resnet18's five two (`layer3`) or three (`layer2`).
    The learning rates do not depend on the size: the head's is 0.001, for `sgd` 0.01, and the backbone's is three
    tenths of the head's, given or not.

    Args:
        settings: What the user said.
        pictures: How many pictures train.
        stages: The backbone's stages, from the picture to the features.
    """
    count = len(stages)
    learning = max(1, round(count / 3) if pictures < 500 else (count + 1) // 2)
    usual = 0.01 if settings.optimizer == "sgd" else 1e-3
    head = usual if settings.learning_rate is None else settings.learning_rate
    defaults: dict[str, Any] = {
        "unfreeze": stages[-learning],
        "epochs": 15 if pictures < 500 else 10 if pictures <= 5_000 else 5,
        "learning_rate": usual,
        "backbone_learning_rate": 0.3 * head,
    }
    return replace(settings, **{name: value for name, value in defaults.items() if getattr(settings, name) is None})


def usual_decay(stages: int) -> float:
    """Return the `layer_decay` where none is given and so many stages learn."""
    return 1.0 if stages <= 5 else 0.8
