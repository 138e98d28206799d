"""What an exported model says of itself: the description of `model.json`, without what only training needs."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from headstart.core.artifact import FORMAT_VERSION, file_sha256, plain_value
from headstart.core.predictor import Predictor
from headstart.use.exporters.contract import How

# Digests of the training pictures, parameters and tables of the search: long, and no answer depends on them.
_LEFT_OUT = ("files", "parameters", "features", "finetuning", "validation")
_DATA = ("name", "fingerprint", "counts")
_TEST = ("n", "figures", "majority")


def describe(predictor: Predictor, form: str, how: How, packages: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """Return what an export says of itself; thresholds and whatever else decides an answer are kept.

    Args:
        predictor: The model.
        form: Name of the format.
        how: What is written.
        packages: Whose versions wrote it.
        more: Further values of the format.
    """
    told = {name: value for name, value in predictor.description.items() if name not in _LEFT_OUT}
    for name, kept in (("data", _DATA), ("test", _TEST), ("head", ("name",))):
        if isinstance(told.get(name), dict):
            told[name] = {key: value for key, value in told[name].items() if key in kept}
    return {
        **told,
        "format_version": told.get("format_version", FORMAT_VERSION),
        "classes": list(predictor.classes),
        "preprocessing": predictor.preprocessing.to_json(),
        "export": {
            "format": form,
            "number": how.number,
            "of": file_sha256(predictor.network_file),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            **more,
        },
    }


def as_text(description: dict[str, Any]) -> str:
    """Return a description as ASCII JSON, which every format's metadata can hold, the same bytes each time."""
    return json.dumps(description, allow_nan=False, sort_keys=True, default=plain_value)
