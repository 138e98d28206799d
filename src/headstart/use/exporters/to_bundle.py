"""A folder that runs by itself: the OpenVINO model, `predict.py`, and headstart's own reading and preprocessing.

`bundle_predict` and what it needs of `headstart.core` are copied, not rewritten: the only change is the package's name
in the imports. `requirements.txt` names the five packages that the copy needs, with the versions it was proved on.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart import core
from headstart.core.errors import ModelError
from headstart.core.predictor import Predictor
from headstart.core.replacing import new_file
from headstart.core.text import shown
from headstart.use.exporters import bundle_predict, to_openvino
from headstart.use.exporters.contract import Exported, How, Number

PRECISIONS: tuple[Number, ...] = to_openvino.PRECISIONS
PACKAGE = "headstart_core"
MODEL = "model"
SCRIPT = "predict.py"
REQUIREMENTS = ("numpy", "opencv-python-headless", "openvino", "pillow", "simplejpeg")
_CORE, _SOURCE = Path(str(core.__file__)).parent, Path(bundle_predict.__file__)

_README = """# {name}

An image classifier of {count} classes, made by headstart. It runs with Python 3.11 or newer and nothing but
`requirements.txt`:

    python -m venv venv
    venv/bin/pip install -r requirements.txt
    venv/bin/python predict.py picture.jpg          # or folders; --json for every probability

`model/` holds the network with its class names, preprocessing and thresholds inside; `headstart_core/` is the part of
headstart (Apache-2.0) that reads pictures, copied as it is. In Python, from this folder:

    from headstart_core.artifact import load
    load("model").predict("picture.jpg")
"""


@dataclass(frozen=True, eq=False)
class Bundle(Exported):
    """A bundle; what it says of picture files is asked of its own `predict.py`, in a process of its own."""

    folder: Path

    def outputs(self, pictures: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Return the probabilities and the novelty that `predict.py` prints of picture files, six digits each.

        Raises:
            ModelError: It failed.
        """
        with tempfile.TemporaryDirectory() as place:
            files = [Path(place, f"{index:06}.picture") for index in range(len(pictures))]
            for file, data in zip(files, pictures, strict=True):
                file.write_bytes(data)
            # -I and -S would hide what is installed; -E and -s keep the caller's own paths, such as PYTHONPATH, out.
            command = [sys.executable, "-E", "-s", "-B", str(self.folder / SCRIPT), "--json", *map(str, files)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode or len(told) != len(pictures):
            reason = (done.stderr.strip().splitlines() or [f"{len(told)} answers"])[-1]
            raise ModelError(f"{SCRIPT} of the bundle failed: {reason}. Export it again, or report this.")
        classes = self.description["classes"]
        probabilities = [[one["probabilities"][name] for name in classes] for one in told]
        found = {"probabilities": np.array(probabilities, np.float32)}
        if all("novelty" in one for one in told):
            found["novelty"] = np.array([one["novelty"] for one in told], np.float32)
        return found


def export(predictor: Predictor, folder: Path, how: How) -> None:
    """Write `model/`, `headstart_core/`, `predict.py`, `requirements.txt` and `README.md`.

    Raises:
        SettingError: int8 is asked for and NNCF is not installed.
    """
    (folder / MODEL).mkdir()
    to_openvino.export(predictor, folder / MODEL, how)
    copy_core(folder / PACKAGE)
    _copy(_SOURCE, folder / SCRIPT)
    versions = [f"{name}=={importlib.metadata.version(name)}\n" for name in REQUIREMENTS]
    (folder / "requirements.txt").write_text("".join(versions), encoding="utf-8")
    name = str(predictor.description.get("data", {}).get("name", "classifier"))
    text = _README.format(name=" ".join(shown(name).split()), count=len(predictor.classes))
    (folder / "README.md").write_text(text, encoding="utf-8")


def describe_again(folder: Path, description: dict[str, Any]) -> None:
    """Write another description into the network in `model/`."""
    to_openvino.describe_again(folder / MODEL, description)


def load(folder: Path) -> Bundle:
    """Read the bundle back.

    Raises:
        ModelError: Its model is damaged, or `predict.py` is missing.
    """
    if not (folder / SCRIPT).is_file():
        raise ModelError(f"{folder} is no bundle: it has no {SCRIPT}. Export it again.")
    inner = to_openvino.load(folder / MODEL)
    return Bundle(inner.description, inner.run, f"its own {SCRIPT}, {inner.engine}", folder)


def needed_modules() -> list[str]:
    """Return the modules of `headstart.core` that `predict.py` imports, directly or through others, sorted."""
    waiting, found = _imported(_SOURCE), set()
    while waiting:
        name = waiting.pop()
        if name not in found and (_CORE / f"{name}.py").is_file():
            found.add(name)
            waiting += _imported(_CORE / f"{name}.py")
    return sorted(found)


def _imported(file: Path) -> list[str]:
    """Return the names that a file imports from `headstart.core`, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headstart.core"):
            inside = str(node.module).removeprefix("headstart.core").lstrip(".")
            names += [inside] if inside else [alias.name for alias in node.names]
    return names


def copy_core(folder: Path) -> None:
    """Copy what predicting needs of `headstart.core`."""
    folder.mkdir()
    for name in ("__init__", *needed_modules()):
        _copy(_CORE / f"{name}.py", folder / f"{name}.py")


def _copy(source: Path, target: Path) -> None:
    """Copy a file of ours, with another name of the package in its imports."""
    text = source.read_text(encoding="utf-8")
    target.write_text(text.replace("headstart.core", PACKAGE), encoding="utf-8")


def zip_of(folder: Path) -> Path:
    """Return where the zip of a bundle's folder stands."""
    return folder.with_name(f"{folder.name}.zip")


def write_zip(folder: Path, target: Path) -> None:
    """Write a bundle as a zip whose files stand in a folder of the zip's own name, whole or not at all.

    Args:
        folder: Of the bundle, wherever it is being written.
        target: `NAME.zip`; an older one is replaced.

    Raises:
        ModelError: It cannot be written.
    """
    try:
        with new_file(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    _add(file, path, f"{target.stem}/{path.relative_to(folder).as_posix()}")
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written: {error.strerror or error}. Free some space or choose another name."
        ) from error


def _add(file: zipfile.ZipFile, path: Path, name: str) -> None:
    # A fixed date, so that the same bundle is the same bytes.
    entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    with path.open("rb") as source, file.open(entry, "w") as sink:
        shutil.copyfileobj(source, sink)
