"""What a report is made from, whether a fit has just ended, a model is measured, or a model folder is all there is."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.calibration import THRESHOLD, Bin, binned, error_of, prediction_sets
from headstart.core.errors import ModelError
from headstart.core.finished import Finished
from headstart.core.intervals import proportion
from headstart.core.metrics import Evaluation, Figure
from headstart.core.outcomes import FILE, Outcomes
from headstart.core.predictor import Predictor
from headstart.core.slices import Slices
from headstart.core.text import short_name

if TYPE_CHECKING:
    from headstart.networks import Backbone
    from headstart.networks.export import Classifier

HeatMaps = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a gallery can show: the answer for each picture; of several labels each that a picture has or was given.

    Attributes:
        picture: int64 `(m,)`, which picture it is about.
        targets: int64 `(m,)`, its true class; c where the picture does not have the label.
        named: int64 `(m,)`, the class that was named; c where the label was not given.
        about: int64 `(m,)`, the class whose evidence a heat map shows.
        confidence: float `(m,)`, how sure the model was of what it said.
        probability: float `(m,)`, of the class in question.
    """

    picture: np.ndarray
    targets: np.ndarray
    named: np.ndarray
    about: np.ndarray
    confidence: np.ndarray
    probability: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which are right, bool `(m,)`."""
        return np.asarray(self.named == self.targets)


@dataclass(frozen=True, eq=False)
class Said:
    """What a model said of n labelled pictures, as far as a page needs it.

    Attributes:
        classes: The c class names.
        names: What to call each picture.
        paths: Where each picture is; None where that is not known.
        targets: int64 `(n,)`, the true classes; bool `(n, c)` where pictures have several labels.
        named: int64 `(n,)`, the most probable classes; bool `(n, c)`, the labels given.
        confidence: float `(n,)`, their probabilities; float `(n, c)`, those of all labels.
        novelty: float `(n,)`, or None where the model does not say.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    paths: tuple[str | None, ...]
    targets: np.ndarray
    named: np.ndarray
    confidence: np.ndarray
    novelty: np.ndarray | None

    @property
    def right(self) -> np.ndarray:
        """Whether each picture's most probable class is its own, or all of its labels are right, bool `(n,)`."""
        same = np.asarray(self.named == self.targets)
        return same if same.ndim == 1 else np.asarray(same.all(axis=1))

    @property
    def bins(self) -> tuple[Bin, ...]:
        """How often what was said with some probability came true; of several labels each is a statement."""
        came_true = self.right if self.targets.ndim == 1 else self.targets
        return binned(self.confidence.ravel(), came_true.ravel())

    @functools.cached_property
    def decisions(self) -> Decisions:
        """What the gallery can show."""
        if self.targets.ndim == 1:
            rows = np.arange(len(self.targets))
            return Decisions(rows, self.targets, self.named, self.named, self.confidence, self.confidence)
        c = len(self.classes)
        picture, label = np.nonzero(self.targets | self.named)
        has, given = self.targets[picture, label], self.named[picture, label]
        p = self.confidence[picture, label]
        return Decisions(
            picture, np.where(has, label, c), np.where(given, label, c), label, np.where(given, p, 1 - p), p
        )

    @classmethod
    def of(cls, outcomes: Outcomes) -> Said:
        """Return what a model has just said."""
        return cls(
            outcomes.classes,
            outcomes.names,
            outcomes.paths,
            outcomes.targets,
            outcomes.named,
            outcomes.probabilities if outcomes.several_labels else outcomes.confidence,
            outcomes.novelty,
        )

    @classmethod
    def read(cls, folder: Path, description: Mapping[str, Any], find: Callable[[str, str], str | None]) -> Said:
        """Return what `predictions.csv` of a model folder remembers.

        Args:
            folder: The model folder.
            description: Of its `model.json`.
            find: Name and digest (or nothing) of a picture -> where it is, or None.

        Raises:
            ModelError: The file is missing or damaged.
        """
        classes = tuple(description["classes"])
        try:
            with (folder / FILE).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            names = tuple(row["path"] for row in rows)
            read = _labels if description.get("output") == "multilabel" else _classes
            targets, named, confidence = read(rows, description)
            scores = [row["novelty"] for row in rows]
            novelty = None if "" in scores else np.array([float(score) for score in scores])
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise ModelError(
                f"{folder / FILE} cannot be used ({type(error).__name__}: {error}). Restore it or fit the model again."
            ) from error
        # An older model has no digests.
        paths = tuple(find(row["path"], row.get("digest") or "") for row in rows)
        return cls(classes, names, paths, targets, named, confidence, novelty)


def _classes(rows: list[dict[str, str]], description: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true class, named class and its probability of each row."""
    order = {_written(name): index for index, name in enumerate(description["classes"])}
    targets, named = (np.array([order[row[key]] for row in rows], np.int64) for key in ("label", "predicted"))
    return targets, named, np.array([float(row["probability"]) for row in rows])


def _labels(rows: list[dict[str, str]], description: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which labels each row has, which it was given, and the probability of each."""
    classes = description["classes"]
    chosen = ((description.get("confidence") or {}).get("labels") or {}).get("thresholds") or {}
    cuts = np.array([chosen.get(name, THRESHOLD) for name in classes])
    targets = np.array([[int(row[f"label:{_written(name)}"]) for name in classes] for row in rows], bool)
    said = np.array([[row[f"probability:{_written(name)}"] for name in classes] for row in rows], np.float32)
    return targets, said >= cuts, said


def _written(name: str) -> str:
    """Return a class name as `predictions.csv` has it."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Measured:
    """What labelled pictures show of a model's confidence; None: the model does not say, or it was not measured."""

    ece: float | None = None
    log_loss: float | None = None
    coverage: Figure | None = None
    mean_size: float | None = None
    alarms: Figure | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made from.

    Attributes:
        description: What `model.json` says.
        evaluation: The figures.
        said: What the model said of the pictures behind them.
        measured: The same pictures, on its confidence.
        history: One row an epoch.
        set_aside: `(name, reason)` of pictures that were left out.
        notes: What was notable of the data and the result, one sentence each.
        data: Name of other data that the model was measured on; None: the figures are those of its fit.
        trained_on: How many of these pictures it has learned from.
        slices: Figures of parts of them.
        heat_maps: `(images as the network sees them, targets) -> heat`, or None to draw none.
        why_missing: One sentence on why some pictures were not found, where they were looked for.
    """

    description: Mapping[str, Any]
    evaluation: Evaluation
    said: Said
    measured: Measured
    history: tuple[Mapping[str, Any], ...] = ()
    set_aside: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    data: str | None = None
    trained_on: int = 0
    slices: Slices | None = None
    heat_maps: HeatMaps | None = None
    why_missing: str = ""


def of_fit(finished: Finished) -> Material:
    """Return the material that a fit has made."""
    return Material(
        finished.description,
        finished.evaluation,
        Said.of(finished.outcomes),
        _measured_by_fit(finished.description),
        finished.history,
        tuple((item["path"], item["reason"]) for item in finished.description["data"]["set_aside"]),
        finished.notes,
        heat_maps=None if finished.network is None else heat_maps_of(finished.network),
    )


def of_model(folder: Path, description: Mapping[str, Any], find: Callable[[str, str], str | None]) -> Material:
    """Return the material that a model folder remembers.

    Args:
        folder: The model folder.
        description: Of its `model.json`.
        find: Name and digest (or nothing) of a test picture -> where it is, or None.

    Raises:
        ModelError: `predictions.csv` is missing or damaged, or `model.json` has no figures.
    """
    try:
        return Material(
            description,
            Evaluation.from_json(description["test"]),
            Said.read(folder, description, find),
            _measured_by_fit(description),
            read_history(folder),
            tuple((item["path"], item["reason"]) for item in description["data"]["set_aside"]),
            heat_maps=lambda images, targets: saved_heat_maps(folder, images, targets),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model.json of {folder} says too little for a report ({type(error).__name__}: {error}). Fit it again."
        ) from error


def of_evaluation(
    predictor: Predictor,
    evaluation: Evaluation,
    outcomes: Outcomes,
    *,
    data: str,
    set_aside: Sequence[tuple[str, str]] = (),
    trained_on: int = 0,
    slices: Slices | None = None,
    notes: Sequence[str] = (),
) -> Material:
    """Return the material of a model that was measured on other pictures; see `Material`."""
    folder = predictor.network_file.parent
    return Material(
        predictor.description,
        evaluation,
        Said.of(outcomes),
        measure(outcomes, evaluation, predictor),
        read_history(folder),
        tuple((short_name(path), reason) for path, reason in set_aside),
        tuple(notes),
        data,
        trained_on,
        slices,
        lambda images, targets: saved_heat_maps(folder, images, targets),
    )


def measure(outcomes: Outcomes, evaluation: Evaluation, predictor: Predictor) -> Measured:
    """Return what labelled pictures show of a model's confidence, with the thresholds that it was saved with."""
    limits, n = predictor.thresholds, len(outcomes.targets)
    coverage, mean_size, alarms = None, None, None
    if limits.set_probability is not None:
        inside = prediction_sets(outcomes.probabilities, limits.set_probability)
        covered = inside[np.arange(n), outcomes.targets]
        coverage, mean_size = Figure(*proportion(covered, outcomes.units)), float(inside.sum(axis=1).mean())
    if limits.novelty is not None and outcomes.novelty is not None:
        alarms = Figure(*proportion(outcomes.novelty > limits.novelty, outcomes.units))
    ece = error_of(Said.of(outcomes).bins)
    return Measured(ece, evaluation.figures["log_loss"].value, coverage, mean_size, alarms)


def _measured_by_fit(description: Mapping[str, Any]) -> Measured:
    confidence = description.get("confidence") or {}
    conformal, novelty = confidence.get("conformal") or {}, confidence.get("novelty") or {}
    after = (confidence.get("test") or confidence.get("cross_validation") or {}).get("after") or {}
    coverage, alarms = conformal.get("test_coverage"), novelty.get("test_alarms")
    return Measured(
        after.get("ece"),
        after.get("log_loss"),
        Figure(**coverage) if coverage else None,
        conformal.get("mean_size"),
        Figure(**alarms) if alarms else None,
    )


def read_history(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """Return `history.csv` of a model folder, a row an epoch; nothing where there were no epochs.

    Raises:
        ModelError: The file is damaged.
    """
    file = folder / "history.csv"
    try:
        if not file.is_file():
            return ()
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        return tuple(
            {name: value if name == "stage" else float(value) for name, value in row.items() if value} for row in rows
        )
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise ModelError(f"{file} is damaged ({error}). Restore it or fit the model again.") from error


def heat_maps_of(network: tuple[Backbone, Classifier]) -> HeatMaps:
    """Return Grad-CAM of a network that is in memory."""

    def heat_maps(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        from headstart.use.explain import gradcam

        return gradcam.heat_maps(network, images, targets)

    return heat_maps


def saved_heat_maps(folder: Path, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return Grad-CAM of a saved model, which is built again as a torch network."""
    from headstart.networks import load_network

    return heat_maps_of(load_network(folder))(images, targets)
