"""What the parameters of `ImageClassifier` mean: the head, settings and backbone that they ask for, and their check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.errors import SettingError, unknown_name
from headstart.core.labels import refuse_several_labels
from headstart.learn.kinds import KINDS, is_whole, wrong_values

if TYPE_CHECKING:
    from headstart.learn.classifier import ImageClassifier
    from headstart.learn.features.extract import FeatureSettings
    from headstart.learn.finetune.settings import TrainingSettings
    from headstart.learn.heads import Head
    from headstart.learn.several import SeveralLabels
    from headstart.networks import Backbone

METHODS = ("auto", "frozen", "finetune")
OUTPUTS = ("softmax", "sigmoid", "multilabel")


def all_values(given: ImageClassifier) -> dict[str, Any]:
    """Return every parameter by name, also of a subclass whose constructor takes fewer of them."""
    return {name: getattr(given, name) for name in sorted((*KINDS, "unfreeze"))}


def feature_settings(given: ImageClassifier) -> FeatureSettings:
    """Return how features are computed.

    Raises:
        SettingError: There is no such augmentation.
    """
    from headstart.learn.augment import make_augmentation
    from headstart.learn.features.extract import FeatureSettings

    return FeatureSettings(
        views=int(given.views),
        augmentation=make_augmentation(given.augmentation),
        seed=int(given.seed),
        device=given.device,
        precision=given.precision,
    )


def training_settings(given: ImageClassifier) -> TrainingSettings:
    """Return the settings of fine-tuning; what is None in them follows the size of the data.

    Raises:
        SettingError: There is no such setting, or its value is impossible.
    """
    from headstart.learn.finetune.settings import make_settings

    named = dict(given.training or {})
    return make_settings({**named, "unfreeze": given.unfreeze} if given.unfreeze is not None else named)


def open_backbone(given: ImageClassifier) -> Backbone:
    """Load the backbone.

    Raises:
        WeightsError: Its weights cannot be had.
    """
    from headstart.networks import load_backbone

    return load_backbone(
        given.backbone, weights=given.weights, image_size=_image_size(given), pooling=given.pooling, fit=given.fit_mode
    )


def new_head(given: ImageClassifier) -> Head:
    """Return the head, not yet fitted.

    Raises:
        SettingError: There is no such head or output, or the two do not go together.
    """
    from headstart.learn.heads import SingleOutput, make_head

    if given.output not in OUTPUTS:
        raise unknown_name("output", given.output, OUTPUTS, "`headstart fit --help`")
    if given.head == "prototype":
        refuse_several_labels(given.output, "head prototype")
    if given.class_weight is not None:
        refuse_several_labels(given.output, "class_weight")
    head = make_head(given.head, **_head_settings(given))
    return SingleOutput(head) if given.output == "sigmoid" else head


def several_labels(given: ImageClassifier) -> SeveralLabels | None:
    """Return where the data name several labels a picture; None where each has one class.

    Raises:
        SettingError: Label columns or a separator are given, and the output is another.
    """
    from headstart.learn.several import choose_several_labels

    return choose_several_labels(given.output, given.label_columns, given.label_separator)


def _head_settings(given: ImageClassifier) -> dict[str, Any]:
    if given.head != "mlp":
        return {}
    settings: dict[str, Any] = {
        "hidden": tuple(map(int, given.hidden)),
        "dropout": float(given.dropout),
        "epochs": int(given.epochs),
        "batch_size": int(given.batch_size),
    }
    if given.learning_rate is not None:
        settings["learning_rate"] = float(given.learning_rate)
    return settings


def _image_size(given: ImageClassifier) -> int | tuple[int, int] | None:
    if given.image_size is None or is_whole(given.image_size):
        return None if given.image_size is None else int(given.image_size)  # type: ignore[arg-type]
    height, width = given.image_size  # type: ignore[misc]
    return int(height), int(width)


def class_weight_by_index(given: ImageClassifier, classes: tuple[str, ...]) -> Any:
    """Return None, `balanced`, or a weight for each class index.

    Raises:
        SettingError: There is no such class.
    """
    if not isinstance(given.class_weight, dict):
        return given.class_weight
    for name in given.class_weight:
        if name not in classes:
            raise unknown_name("class in class_weight", name, classes, "the data's folder")
    return {classes.index(name): float(weight) for name, weight in given.class_weight.items()}


def check(given: ImageClassifier) -> None:
    """Raise one SettingError for all parameters that cannot work, before any picture is read."""
    from headstart.learn.classifier import ImageClassifier

    values, defaults = all_values(given), all_values(ImageClassifier())
    wrong = wrong_values(values)
    problems = list(wrong.values())
    # The others are looked at beside the default of what is wrong, so that all is told at once.
    given = ImageClassifier(**{name: defaults[name] if name in wrong else value for name, value in values.items()})
    if given.method not in METHODS:
        problems.append(str(unknown_name("method", given.method, METHODS, "`headstart fit --help`")))
    if given.views > 1 and given.augmentation in (None, "none") and "augmentation" not in wrong:
        problems.append(f"views is {given.views}, but without augmentation all views are the same: set augmentation.")
    if given.weights is not None and not Path(given.weights).is_file():
        problems.append(f"weights is {str(given.weights)!r}, which is no file: check the path.")
    if given.validation_size + given.test_size >= 1 and not wrong.keys() & {"validation_size", "test_size"}:
        problems.append("validation_size and test_size leave nothing to train on: together they must be below 1.")
    for work_out in (
        new_head,
        several_labels,
        _check_backbone,
        _check_augmentation,
        _check_device,
        training_settings,
        _check_budget,
    ):
        try:
            work_out(given)
        except SettingError as error:
            problems.append(str(error))
    if problems:
        raise SettingError("\n  ".join(problems))


def _check_backbone(given: ImageClassifier) -> None:
    from headstart.networks import check_name

    check_name(given.backbone, _image_size(given), given.fit_mode)


def _check_augmentation(given: ImageClassifier) -> None:
    from headstart.learn.augment import make_augmentation

    make_augmentation(given.augmentation)


def _check_budget(given: ImageClassifier) -> None:
    from headstart.learn.finetune.estimate import parse_seconds

    if given.budget is not None:
        parse_seconds(given.budget)


def _check_device(given: ImageClassifier) -> None:
    from headstart.learn.features.engines import choose_device, choose_precision

    choose_precision(given.precision, choose_device(given.device))
