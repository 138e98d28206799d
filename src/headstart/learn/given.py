"""Which parameters the chosen method and head use: others are told, or give way to what was said later.

`epochs`, `batch_size`, `learning_rate` and `patience` are those of what trains by epochs: of the `mlp` head; with any
other head, of fine-tuning. Where both train, fine-tuning's stand in `training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What `augmentation` is where it is not given.
DEFAULT_AUGMENTATION = "none"
OF_MLP = ("hidden", "dropout")
OF_EPOCHS = ("epochs", "batch_size", "learning_rate", "patience")
OF_TUNING = ("unfreeze", "training", "budget")


def is_given(value: Any) -> bool:
    """Whether a parameter was given: None and `{}` say nothing."""
    return value is not None and not (isinstance(value, dict) and not value)


def unused(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a sentence by name for every parameter that was given and does nothing beside the others.

    Args:
        values: Parameters of `ImageClassifier` by name, all or only those that were given.
    """
    given = {name for name, value in values.items() if is_given(value)}
    method, head = values.get("method", "auto"), values.get("head", "linear")
    said = {}
    if head != "mlp":
        for name in OF_MLP:
            said[name] = f"{name} is given, and head {head} has no hidden layers: choose head mlp, or leave it out."
    if method == "frozen":
        for name in OF_TUNING:
            said[name] = (
                f"{name} is given, and method frozen does not fine-tune: choose method finetune, or leave it out."
            )
    if head != "mlp" and method == "frozen":
        for name in OF_EPOCHS:
            said[name] = (
                f"{name} is given, and neither method frozen nor head {head} trains by epochs: choose method finetune "
                "or head mlp, or leave it out."
            )
    return {name: sentence for name, sentence in said.items() if name in given}


def is_plain(augmentation: Any) -> bool:
    """Whether an augmentation, as it may be given, changes nothing; what cannot be read is for the check to tell."""
    from headstart.core.errors import SettingError
    from headstart.learn.augment import Augmentation, make_augmentation

    try:
        return make_augmentation(augmentation) == Augmentation()
    except (SettingError, TypeError, ValueError):
        return False


def given_twice(values: Mapping[str, Any]) -> list[str]:
    """Return which of `unfreeze` and `OF_EPOCHS` fine-tuning is told in `training` too."""
    training = values.get("training")
    if not isinstance(training, dict):
        return []
    own = () if values.get("head", "linear") == "mlp" else OF_EPOCHS
    return [name for name in (*own, "unfreeze") if is_given(values.get(name)) and is_given(training.get(name))]


def of_head_alone(values: Mapping[str, Any]) -> list[str]:
    """Return which of `OF_EPOCHS` the `mlp` head takes while fine-tuning, which may follow, is not told its own."""
    if values["method"] == "frozen" or values["head"] != "mlp":
        return []
    training, scheduled = values["training"] or {}, _has_schedule(values)
    return [
        name
        for name in OF_EPOCHS
        if is_given(values[name]) and not is_given(training.get(name)) and not (name == "epochs" and scheduled)
    ]


def _has_schedule(values: Mapping[str, Any]) -> bool:
    """Whether `unfreeze`, by itself or in `training`, is a list that says how long each stage learns."""
    training = values.get("training")
    inner = training.get("unfreeze") if isinstance(training, dict) else None
    return any(isinstance(one, (list, tuple)) for one in (values.get("unfreeze"), inner))


def overlay(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a recipe or a file with others over them; what these make unused falls away.

    `training` of the upper changes single settings of the lower's.

    Args:
        lower: Parameters of `ImageClassifier` by name.
        upper: Others, which win, and never fall away: what is wrong with them is for `parameters.check` to tell.
    """
    lower = _for_head(lower, upper.get("head", lower.get("head", "linear")))
    lower = _for_views(_for_schedule(lower, upper), upper)
    both = {**lower, **upper}
    over, under = upper.get("training"), lower.get("training")
    if isinstance(over, dict) and isinstance(under, dict):
        both["training"] = {**under, **over}
    for name in given_twice(both):
        if name in upper and name not in (over or {}):
            both["training"] = {key: value for key, value in both["training"].items() if key != name}
        elif name not in upper and name in (over or {}):
            del both[name]
    fallen = unused(both).keys() - unused(lower).keys() - upper.keys()
    return {name: value for name, value in both.items() if name not in fallen}


def _for_views(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without the views or the augmentation that what is laid over them makes useless."""
    useless = set()
    if "augmentation" in upper and is_plain(upper["augmentation"]):
        useless.add("views")
    views = upper.get("views")
    if not isinstance(views, bool) and views == 1:
        useless.add("augmentation")
    return {name: value for name, value in lower.items() if name not in useless}


def _for_schedule(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without fine-tuning's epochs where a list over them says how long each stage learns."""
    if not _has_schedule(upper):
        return dict(lower)
    of_head = upper.get("head", lower.get("head", "linear")) == "mlp"
    kept = {name: value for name, value in lower.items() if name != "epochs" or of_head}
    if isinstance(kept.get("training"), dict):
        kept["training"] = {name: value for name, value in kept["training"].items() if name != "epochs"}
    return kept


def _for_head(lower: Mapping[str, Any], head: str) -> dict[str, Any]:
    """Return parameters as they are meant when the head becomes another: whose `epochs` they are must not change."""
    was = lower.get("head", "linear")
    if (was == "mlp") == (head == "mlp"):
        return dict(lower)
    moved = {name: value for name, value in lower.items() if name in OF_EPOCHS}
    kept = {name: value for name, value in lower.items() if name not in moved}
    if was != "mlp" and moved and lower.get("method") != "frozen":
        kept["training"] = {**(kept.get("training") or {}), **moved}
    return kept
