"""The model folder: written whole or not at all, checked when read, never unpickled.

model.json           format version, classes, preprocessing, parameters, versions, data, metrics, file hashes
model.onnx           uint8 pictures in, probabilities and features out
weights.safetensors  the same network's tensors, for torch
history.csv, report.html, README.md and others as the method writes them
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headstart.core.answers import Thresholds
from headstart.core.errors import ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.core.replacing import new_folder, set_aside
from headstart.core.runtime import Precision

FORMAT_VERSION = 1
DESCRIPTION = "model.json"
NETWORK = "model.onnx"
WEIGHTS = "weights.safetensors"
# Files of exports that only their own runtime reads.
FOR_OTHERS = {"program.pt2": "torch", "model.tflite": "LiteRT"}


def load(folder: str | os.PathLike[str], *, precision: Precision = "float32") -> Predictor:
    """Return the `Predictor` of a model folder, or of a model that `headstart export` wrote for ONNX or OpenVINO.

    Args:
        folder: What `ImageClassifier.save` or `headstart fit` wrote, or an exported folder, `.onnx` or `.xml` file.
        precision: What the network computes in; float32 gives the same answer on every machine.

    Raises:
        ModelError: There is no model, it is damaged, or it was written by a newer version of headstart.
    """
    from headstart.core import exported

    folder = Path(folder).absolute()
    file = exported.network_file(folder)
    if file is not None:
        return exported.load(file, precision=precision)
    description = read_description(folder)
    verify_file(folder, NETWORK, description)
    return Predictor(
        folder / NETWORK,
        tuple(description["classes"]),
        Preprocessing.from_json(description["preprocessing"]),
        description=description,
        precision=precision,
    )


def read_description(folder: Path) -> dict[str, Any]:
    """Return what `model.json` of a model folder says.

    Raises:
        ModelError: It is missing, damaged or of a newer format.
    """
    path = folder / DESCRIPTION
    try:
        description = check_description(json.loads(path.read_text(encoding="utf-8")), folder)
        if not isinstance(description["files"], dict):
            raise TypeError("files are of the wrong type")
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists() and (former := set_aside(folder)):
            raise ModelError(
                f"{folder} is not there: replacing it was interrupted. The model that stood there is {former[0]}: "
                "rename it back, or fit again."
            ) from None
        raise ModelError(_not_a_model(folder)) from None
    except (OSError, ValueError, KeyError, TypeError, SettingError) as error:
        raise ModelError(f"{path} is damaged ({error}). Restore it or fit the model again.") from error
    return description


def _not_a_model(path: Path) -> str:
    """Say what a path without a `model.json` is instead, where that can be seen, and what to do."""
    for name, runtime in FOR_OTHERS.items():
        if (path / name).is_file() or (path.name == name and path.is_file()):
            return (
                f"{path} is a model exported for {runtime}, which runs it without headstart. Name the model folder "
                "that it was exported from, or export that again with `headstart export MODEL --to onnx`."
            )
    if path.is_file() and path.suffix == ".zip":
        return f"{path} is an archive: unpack it, and name the folder."
    if path.is_file() and path.name in (DESCRIPTION, WEIGHTS):
        return f"{path} is a file of a model folder: name the folder, {path.parent}."
    return f"{path} is no model folder: it has no {DESCRIPTION}. Name a folder that `headstart fit` wrote."


def check_description(description: Any, source: Path) -> dict[str, Any]:
    """Return a description as it is when it can be used, wherever it was written.

    Args:
        description: What `model.json`, or the metadata of an exported model, holds.
        source: Where, for the message.

    Raises:
        ModelError: It is of a newer format.
        ValueError, KeyError, TypeError, SettingError: It is damaged.
    """
    version = int(description["format_version"])
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{source} has model format {version}, and this headstart reads up to {FORMAT_VERSION}: "
            "pip install --upgrade headstart."
        )
    Preprocessing.from_json(description["preprocessing"])
    Thresholds.of(description)
    classes = description["classes"]
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise TypeError("classes are of the wrong type")
    data = description.get("data", {})
    if not isinstance(data, dict) or not isinstance(data.get("training_digests", []), list):
        raise TypeError("data or their training_digests are of the wrong type")
    return dict(description)


def verify_file(folder: Path, name: str, description: dict[str, Any]) -> Path:
    """Return the path of a file of the model folder after comparing its sha256 with `model.json`.

    Raises:
        ModelError: It is missing or its bytes are not those that were written.
    """
    path = folder / name
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}). Restore it or fit the model again.") from None
    if found != description["files"].get(name):
        raise ModelError(
            f"{path} is damaged: its sha256 is not the one in {DESCRIPTION}. Restore it or fit the model again."
        )
    return path


@contextmanager
def new_model_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that takes its place when the block ends well, else vanishes.

    An existing model folder is replaced; any other folder that is not empty is refused before work begins.

    Raises:
        ModelError: `target` holds something else, or cannot be written.
    """
    check_target(target)
    with new_folder(target) as temporary:
        yield temporary


def check_target(target: Path) -> None:
    """Raise ModelError if a model may not be written to `target`: only a whole folder of ours is ever replaced."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        ours = {DESCRIPTION, *read_description(target)["files"]}
        foreign = [path.name for path in target.iterdir() if path.name not in ours]
    except ModelError:
        raise ModelError(
            f"{target} exists and is no model folder: nothing was written. Choose another name with --out."
        ) from None
    if foreign:
        raise ModelError(
            f"{target} holds {foreign[0]!r}, which no model folder has: nothing was written. Move it away, or choose "
            "another name with --out."
        )


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write `model.json` last, with the format version and the sha256 of every other file of the folder."""
    files = {
        path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != DESCRIPTION
    }
    whole = {"format_version": FORMAT_VERSION, **description, "files": files}
    # ASCII, because a name that is not UTF-8 could not be written otherwise.
    text = json.dumps(whole, indent=2, allow_nan=False, default=plain_value)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def plain_value(value: Any) -> Any:
    """Return what JSON can hold of a parameter: numpy numbers, paths, dataclasses."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
