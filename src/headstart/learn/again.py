"""The command that makes a run again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.core.text import shown


def command(parameters: Mapping[str, Any], defaults: Mapping[str, Any], source: str) -> str:
    """Return the command line of a fit, with the parameters that are not the default ones.

    Where the pictures came as a list or a DataFrame, or a value has no form on the command line, it is the call in
    Python. The data's own folders are left out: a model is made to be passed on.

    Args:
        parameters: Of `ImageClassifier`.
        defaults: The same, of one that was given none.
        source: What the pictures were read from.
    """
    changed = {name: value for name, value in parameters.items() if value != defaults[name] and value != {}}
    if isinstance(changed.get("weights"), (str, os.PathLike)):
        changed["weights"] = Path(changed["weights"]).name
    options = {name: _text(value) for name, value in changed.items()}
    if not os.path.exists(source) or None in options.values():
        given = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        return f"ImageClassifier({given}).fit(…)"
    words = ["headstart", "fit", shown(Path(source).name)]
    for name, text in options.items():
        words += [f"--{name.replace('_', '-')}", str(text)]
    return shlex.join(words)


def pinned(parameters: Mapping[str, Any], features: str, training: str | None) -> Mapping[str, Any]:
    """Return parameters with the precisions that were chosen by trials on this machine: a later trial may differ.

    Args:
        parameters: Of `ImageClassifier`.
        features: Precision in which features were computed.
        training: Precision of fine-tuning, if that was done.
    """
    changed = {**parameters, "precision": features}
    if training is not None:
        changed["training"] = {**(parameters["training"] or {}), "precision": training}
    return changed


def _text(value: Any) -> str | None:
    """Return a value as its option takes it, or None where the option cannot take it."""
    if isinstance(value, Mapping):
        return _pairs([pair for pair in value.items() if pair[1] is not None])
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(one, (list, tuple)) and len(one) == 2 for one in value):
            return _pairs(value)
        parts = [str(one) for one in value]
        return ",".join(parts) if parts and all(map(_is_plain, parts)) else None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pairs(pairs: Iterable[Sequence[Any]]) -> str | None:
    texts = [(str(name), _text(value)) for name, value in pairs]
    names = [name for name, _ in texts]
    whole = names and len(set(names)) == len(names)
    plain = all(_is_plain(name) and value is not None and _is_plain(value) for name, value in texts)
    return ",".join(f"{name}={value}" for name, value in texts) if whole and plain else None


def _is_plain(part: str) -> bool:
    """Whether the command line, which cuts at these signs and strips what is between, gives a part as it is."""
    return part != "" and part == part.strip() and not {",", "="} & set(part)
