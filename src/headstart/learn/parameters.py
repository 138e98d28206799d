"""What the parameters of `ImageClassifier` mean: the head, settings and backbone that they ask for, and their check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.errors import SettingError, unknown_name
from headstart.core.labels import refuse_several_labels
from headstart.learn.given import OF_EPOCHS, given_twice, of_head_alone, unused
from headstart.learn.kinds import KINDS, is_whole, plain_sequence, wrong_values

if TYPE_CHECKING:
    from headstart.learn.augment import Augmentation
    from headstart.learn.classifier import ImageClassifier
    from headstart.learn.features.extract import FeatureSettings
    from headstart.learn.finetune.settings import TrainingSettings
    from headstart.learn.heads import Head
    from headstart.learn.several import SeveralLabels
    from headstart.networks import Backbone

METHODS = ("auto", "frozen", "finetune")
OUTPUTS = ("softmax", "sigmoid", "multilabel")


def all_values(given: ImageClassifier) -> dict[str, Any]:
    """Return every parameter by name, also of a subclass whose constructor takes fewer of them; arrays as tuples."""
    return {name: plain_sequence(getattr(given, name)) for name in sorted((*KINDS, "unfreeze"))}


def feature_settings(given: ImageClassifier) -> FeatureSettings:
    """Return how features are computed.

    Raises:
        SettingError: There is no such augmentation.
    """
    from headstart.learn.augment import make_augmentation
    from headstart.learn.features.extract import FeatureSettings

    augmentation = make_augmentation(given.augmentation)
    return FeatureSettings(
        views=_views(given, augmentation),
        augmentation=augmentation,
        seed=int(given.seed),
        device=given.device,
        precision=given.precision,
    )


def _views(given: ImageClassifier, augmentation: Augmentation) -> int:
    """Return the views of each training picture for the head; fine-tuning, which knows its cut, chooses its own."""
    from headstart.learn.augment import Augmentation
    from headstart.learn.finetune.source import DEFAULT_VIEWS
    from headstart.learn.heads import MLPHead

    if given.views is not None:
        return int(given.views)
    if augmentation == Augmentation():
        return 1
    if given.head != "mlp":
        return DEFAULT_VIEWS
    return min(DEFAULT_VIEWS, int(MLPHead.epochs if given.epochs is None else given.epochs))


def training_settings(given: ImageClassifier) -> TrainingSettings:
    """Return the settings of fine-tuning; what is None in them follows the size of the data.

    Those of `OF_EPOCHS` are fine-tuning's where the head has no epochs of its own.

    Raises:
        SettingError: There is no such setting, or its value is impossible.
    """
    from headstart.learn.finetune.settings import make_settings

    named = dict(given.training or {})
    own = () if given.head == "mlp" else OF_EPOCHS
    for name in (*own, "unfreeze"):
        if getattr(given, name) is not None:
            named[name] = getattr(given, name)
    return make_settings(named)


def open_backbone(given: ImageClassifier) -> Backbone:
    """Load the backbone.

    Raises:
        WeightsError: Its weights cannot be had.
    """
    from headstart.networks import load_backbone

    return load_backbone(
        given.backbone, weights=given.weights, image_size=image_size(given), pooling=given.pooling, fit=given.fit_mode
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

    columns = given.label_columns
    return choose_several_labels(given.output, None if columns is None else tuple(columns), given.label_separator)


def _head_settings(given: ImageClassifier) -> dict[str, Any]:
    if given.head != "mlp":
        return {}
    kinds: dict[str, Callable[[Any], Any]] = {
        "hidden": lambda sizes: tuple(map(int, sizes)),
        "dropout": float,
        "epochs": int,
        "batch_size": int,
        "learning_rate": float,
        "patience": int,
    }
    return {name: kind(getattr(given, name)) for name, kind in kinds.items() if getattr(given, name) is not None}


def image_size(given: ImageClassifier) -> int | tuple[int, int] | None:
    """Return the side, or (height, width), in pixels of what the network sees; None is the backbone's own."""
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
    problems += _do_not_go_together(given)
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


def hints(given: ImageClassifier) -> list[str]:
    """Return what a user may not expect of parameters that work, a sentence each."""
    from headstart.learn.augment import Augmentation

    values = all_values(given)
    hints = [
        f"{name} is that of the mlp head; fine-tuning has its own: --training {name}={values[name]}."
        for name in of_head_alone(values)
    ]
    how = feature_settings(given)
    views = how.views
    if given.views is None and views == 1 and how.augmentation != Augmentation():
        hints.append("The one epoch of the head sees only the plain view: the augmentation does nothing for the head.")
    if given.method == "frozen" and given.views is None and views > 1:
        hints.append(f"Each training picture is seen in {views} views, of which {views - 1} are augmented (--views).")
    return hints


def _do_not_go_together(given: ImageClassifier) -> list[str]:
    from headstart.learn.heads import HEADS

    values = all_values(given)
    problems = [] if given.head not in HEADS or given.method not in METHODS else list(unused(values).values())
    problems += [f"{name} is given by itself and in training: leave one out." for name in given_twice(values)]
    if given.views is None:
        return problems
    from headstart.learn.augment import Augmentation, make_augmentation

    try:
        nothing = make_augmentation(given.augmentation) == Augmentation()
    except SettingError:  # which `_check_augmentation` tells
        return problems
    if given.views > 1 and nothing:
        problems.append(f"views is {given.views}, but without augmentation all views are the same: set augmentation.")
    if given.views == 1 and not nothing:
        problems.append("views is 1, the plain view, which is never augmented: give 2 or more, or leave views out.")
    return problems


def _check_backbone(given: ImageClassifier) -> None:
    from headstart.networks import check_name

    check_name(given.backbone, image_size(given), given.fit_mode)


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
