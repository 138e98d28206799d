"""What an exported model says of itself: the description of `model.json`, without what only training needs."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict
from typing import Any

from headstart.core.artifact import FORMAT_VERSION, file_sha256, plain_value
from headstart.core.predictor import Predictor
from headstart.use.exporters.accuracy import BeforeAndAfter
from headstart.use.exporters.contract import How

# Digests of the training pictures, parameters and tables of the search: long, and no answer depends on them.
_LEFT_OUT = ("files", "parameters", "features", "finetuning", "validation")
_DATA = ("name", "fingerprint", "counts")
_TEST = ("n", "figures", "majority")
# What was measured of the original, or is promised of it: of a network in 8 bits it is not true.
_OF_THE_ORIGINAL = ("test", "evaluated_by")
_CONFIDENCE_LEFT_OUT = ("test", "cross_validation")
_CONFIDENCE_OF_THE_ORIGINAL = {
    "conformal": ("coverage", "test_coverage", "mean_size"),
    "novelty": ("false_alarm_rate", "test_alarms"),
}


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
    if how.number == "int8":
        told = _without_figures(told)
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


def _without_figures(told: dict[str, Any]) -> dict[str, Any]:
    """Return the same without what the original was measured to be: the thresholds stay, as answers depend on them."""
    kept = {name: value for name, value in told.items() if name not in _OF_THE_ORIGINAL}
    if isinstance(kept.get("confidence"), dict):
        confidence = {name: value for name, value in kept["confidence"].items() if name not in _CONFIDENCE_LEFT_OUT}
        for name, gone in _CONFIDENCE_OF_THE_ORIGINAL.items():
            if isinstance(confidence.get(name), dict):
                confidence[name] = {key: value for key, value in confidence[name].items() if key not in gone}
        kept["confidence"] = confidence
    return kept


def with_figures(description: dict[str, Any], cost: BeforeAndAfter, engine: str) -> dict[str, Any]:
    """Return what an export in 8 bits says of itself, with the figures that were measured of it.

    They are under the names that `model.json` has for them; `evaluated_by` says what they were measured on, and
    `measured_in` of `export` by what: in 8 bits another runtime rounds otherwise.
    """
    told = {**description, "evaluated_by": cost.measured_on}
    told["export"] = {**description["export"], "measured_in": engine}
    told["test"] = {"n": cost.n, "figures": {"accuracy": asdict(cost.after)}}
    confidence = dict(told.get("confidence") or {})
    if cost.covered is not None:
        found = {"test_coverage": asdict(cost.covered), "mean_size": cost.set_size}
        confidence["conformal"] = {**confidence["conformal"], **found}
    if cost.alarms is not None:
        confidence["novelty"] = {**confidence["novelty"], "test_alarms": asdict(cost.alarms)}
    return {**told, "confidence": confidence} if confidence else told


def as_text(description: dict[str, Any]) -> str:
    """Return a description as ASCII JSON, which every format's metadata can hold, the same bytes each time."""
    return json.dumps(description, allow_nan=False, sort_keys=True, default=plain_value)
