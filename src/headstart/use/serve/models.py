"""The models that are served, each ready to run; a new one takes the old one's place without a request being lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from headstart.core import artifact, exported
from headstart.core.errors import ImageError, ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.core.runtime import Precision

# What model.json says that a client may know; the rest names folders and pictures of whoever trained the model.
_TOLD = ("classes", "class_names", "backbone", "method", "output", "confidence", "evaluated_by")


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is ready to run.

    Attributes:
        name: What `?model=` calls it.
        folder: Where it came from: a model folder, or what was exported.
        predictor: Runs it; its networks are compiled.
        state: Of the folder's files when they were read; another state means another model.
        loaded: When, in seconds since 1970.
    """

    name: str
    folder: Path
    predictor: Predictor
    state: tuple[object, ...]
    loaded: float

    def to_json(self) -> dict[str, Any]:
        """Return what clients are told of the model."""
        description = self.predictor.description
        told = {key: description[key] for key in _TOLD if key in description}
        test = description.get("test") or {}
        figures = test.get("figures") or {}
        return {
            "name": self.name,
            **told,
            "image_size": list(self.predictor.preprocessing.image_size),
            "precision": self.predictor.precision,
            **({"test": {"n": test.get("n"), **figures}} if figures else {}),
            "loaded": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.loaded)),
        }


class Models:
    """The models of a server by name; the first is the one that is meant when a request names none.

    Args:
        folders: Model folders, each perhaps as NAME=FOLDER; without a name the folder's own is taken.
        precision: What the networks compute in.

    Raises:
        ModelError: A folder holds no model that can be run.
        SettingError: Two models would have the same name.
    """

    def __init__(self, folders: Iterable[str], *, precision: Precision = "float32") -> None:
        self._precision = precision
        self._models: dict[str, Served] = {}
        self._refused: dict[str, tuple[object, ...]] = {}
        for given in folders:
            name, folder = _name_and_folder(given)
            if name in self._models:
                raise SettingError(
                    f"two models are called {name!r}: give one another name, as in {name}-2={os.fspath(folder)}."
                )
            self._models[name] = load(name, folder, precision)

    def __iter__(self) -> Any:
        return iter(self._models.values())

    def get(self, name: str | None = None) -> Served | None:
        """Return the model of that name (None: the first), or None where there is none."""
        return next(iter(self._models.values())) if name is None else self._models.get(name)

    def changed(self) -> list[Served]:
        """Return the models whose folders hold something new that was not refused before."""
        states = {name: folder_state(one.folder) for name, one in self._models.items()}
        return [
            one
            for name, one in self._models.items()
            if states[name] and states[name] not in (one.state, self._refused.get(name))
        ]

    def reload(self, old: Served) -> Served:
        """Load what an old model's folder holds now and let it take its place; requests under way keep the old one.

        Raises:
            ModelError: It cannot be run; the old one stays, and the new one is not tried again until it changes.
        """
        state = folder_state(old.folder)
        try:
            new = load(old.name, old.folder, self._precision)
        except Exception:
            self._refused[old.name] = state
            raise
        self._models[old.name] = new
        return new


def load(name: str, folder: Path, precision: Precision) -> Served:
    """Read a model, compile its networks and run each once, so that the first client does not wait for that.

    Raises:
        ModelError: It cannot be read or run, or changed while it was read.
    """
    state = folder_state(folder)
    predictor = artifact.load(folder, precision=precision)
    height, width = predictor.preprocessing.image_size
    blank = simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8))
    for many in (False, True):
        (outputs,) = predictor.run([blank], predictor.network(many=many))
        found = None if isinstance(outputs, ImageError) else outputs["probabilities"].shape
        if found != (len(predictor.classes),):
            raise ModelError(
                f"{folder} has {len(predictor.classes)} classes, but its network answers {found}. "
                "Restore it or fit the model again."
            )
    if folder_state(folder) != state:
        raise ModelError(f"{folder} changed while it was read. It is read again when it is whole.")
    return Served(name, folder, predictor, state, time.time())


def folder_state(folder: Path) -> tuple[object, ...]:
    """Return what tells one state of a model's files from another; empty where they are not all there."""
    network = exported.network_file(folder)
    if network is None:
        files = [folder / artifact.DESCRIPTION, folder / artifact.NETWORK]
    elif network.suffix == ".xml":
        files = [network, network.with_suffix(".bin")]
    else:
        files = [network]
    try:
        stats = [os.stat(file) for file in files]
    except OSError:
        return ()
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in stats)


def _name_and_folder(given: str) -> tuple[str, Path]:
    name, separator, folder = given.partition("=")
    if separator and name and not Path(given).exists() and os.sep not in name:
        return name, Path(folder).absolute()
    return Path(given).absolute().name, Path(given).absolute()
