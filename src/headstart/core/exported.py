"""An exported ONNX or OpenVINO model that describes itself: read back, checked, and used like a model folder.

What an export says of itself stands in the file that holds the network, under the key `headstart`: the description of
`model.json` (classes, preprocessing, thresholds, versions) as ASCII JSON. Class names cannot come from another model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headstart.core.artifact import DESCRIPTION, check_description, file_sha256
from headstart.core.errors import ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.core.runtime import Precision, shared_core

KEY = "headstart"
ONNX = "model.onnx"
OPENVINO = "model.xml"
SUFFIXES = (".onnx", ".xml")


def network_file(path: Path) -> Path | None:
    """Return the exported network that `path` is, or holds as a folder; None where it is neither.

    A folder with a `model.json` is a model folder, whose own checks are stricter. A bundle has its network in `model/`.
    """
    if path.suffix in SUFFIXES and path.is_file():
        return path
    if (path / DESCRIPTION).exists():
        return None
    return next((path / name for name in (OPENVINO, ONNX, f"model/{OPENVINO}") if (path / name).is_file()), None)


def load(file: Path, *, precision: Precision = "float32") -> Predictor:
    """Return the predictor of an exported network.

    Args:
        file: An `.onnx` or `.xml` file that `headstart export` wrote.
        precision: What the layers that are not quantised compute in.

    Raises:
        ModelError: It does not describe itself, is damaged, or was written by a newer version.
    """
    description = read_metadata(file)
    preprocessing = Preprocessing.from_json(description["preprocessing"])
    return Predictor(file, tuple(description["classes"]), preprocessing, description=description, precision=precision)


def read_metadata(file: Path) -> dict[str, Any]:
    """Return what an exported network says of itself, after comparing it with the network.

    Raises:
        ModelError: It says nothing, is damaged or newer, or its weights are those of another model.
    """
    try:
        model = shared_core().read_model(str(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"{file} is not a network OpenVINO can read ({reason}). Export the model again.") from error
    path = [KEY] if file.suffix == ".xml" else ["framework", KEY]
    if not model.has_rt_info(path):
        raise ModelError(
            f"{file} does not describe itself: it was not written by `headstart export`. Name a model folder, or what "
            "`headstart export` wrote."
        )
    description = parse(model.get_rt_info(path).astype(str), file)
    if file.suffix == ".xml":
        _check_weights(file.with_suffix(".bin"), description)
    try:
        (images,), named = model.inputs, model.output("probabilities").partial_shape[-1]
        size = [images.partial_shape[axis].get_length() for axis in (1, 2)]
    except (RuntimeError, ValueError, IndexError):
        raise ModelError(
            f"{file} has other inputs or outputs than what `headstart export` writes. Export the model again."
        ) from None
    check_network(description, size, named.get_length() if named.is_static else None, file)
    return description


def parse(text: str, source: Path) -> dict[str, Any]:
    """Return the description that an exported model carries.

    Args:
        text: As it stands in the model.
        source: Where, for the message.

    Raises:
        ModelError: It is damaged or of a newer format.
    """
    try:
        return check_description(json.loads(text), source)
    except (ValueError, KeyError, TypeError, SettingError) as error:
        raise ModelError(f"what {source} says of itself is damaged ({error}). Export the model again.") from error


def check_network(description: dict[str, Any], image_size: list[int], classes: int | None, source: Path) -> None:
    """Compare what an exported model says with the shapes of its network.

    Args:
        description: What it says.
        image_size: `[height, width]` of the network's input.
        classes: Width of its probabilities; None where the file leaves it open.
        source: Where, for the message.

    Raises:
        ModelError: They are not of the same model.
    """
    said = list(description["preprocessing"]["image_size"]), len(description["classes"])
    found = image_size, said[1] if classes is None else classes
    if said != found:
        raise ModelError(
            f"{source} says {said[1]} classes and pictures of {said[0]} pixels, and its network has {found[1]} and "
            f"{found[0]}. Export the model again."
        )


def _check_weights(file: Path, description: dict[str, Any]) -> None:
    try:
        found = file_sha256(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}). Keep it beside the .xml file.") from None
    if found != description.get("export", {}).get("weights"):
        raise ModelError(f"{file} does not belong to the .xml file beside it, or is damaged. Export the model again.")
