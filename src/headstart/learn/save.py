"""Writing a trained network as a model folder, and measuring the figure that is reported on that folder itself."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstart.core import artifact, digests
from headstart.core import pictures as sources
from headstart.core.card import write_card
from headstart.core.errors import ImageError, ModelError
from headstart.core.finished import Finish, Finished
from headstart.core.metrics import Evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.core.progress import Progress
from headstart.core.text import short_name
from headstart.learn.again import command, pinned
from headstart.learn.confidence import Confident, describe_test
from headstart.learn.curves import draw_curves
from headstart.networks.export import Classifier, add_head, to_onnx
from headstart.networks.layers import describe_layers

if TYPE_CHECKING:
    from headstart.learn.prepare import Prepared
    from headstart.learn.trained import Trained
    from headstart.networks import Backbone

MAX_DIFFERENCE = 1e-4
_LIBRARIES = ("headstart", "torch", "timm", "openvino", "onnx", "numpy", "scikit-learn", "pillow", "simplejpeg")


def save_model(
    out: Path,
    parameters: tuple[dict[str, Any], dict[str, Any]],
    prepared: Prepared,
    backbone: Backbone,
    confident: Confident,
    progress: Progress,
    finish: Finish | None = None,
) -> Evaluation:
    """Write the model folder, whole or not at all, and return the figures measured on it.

    Args:
        out: The model folder.
        parameters: Of the classifier, and their defaults.
        prepared: The pictures and their split.
        backbone: What was built on.
        confident: What was learned.
        progress: Is shown the steps.
        finish: Adds to the folder what is made from it.

    Raises:
        ModelError: The folder cannot be written, or the network in it is not the one that was trained.
    """
    trained, dataset, test = confident.trained, prepared.dataset, prepared.split.test
    given, seed = parameters[0], parameters[0]["seed"]
    figures, outcomes = trained.cross_validation, trained.held_out
    with artifact.new_model_folder(out) as folder:
        with progress.step("export"):
            some = dataset.paths[:: max(1, len(dataset.paths) // 4)][:4]
            samples = np.stack([sources.load(path, backbone.preprocessing) for path in some])
            known = {"output": given["output"], "confidence": confident.told}
            predictor = write_network(
                folder, trained.network, dataset.classes, backbone.preprocessing, samples, trained.graph, known
            )
            write_history(folder, trained.history)
            draw_curves(trained.history, folder / "curves.png")
        if figures is None:
            paths = [dataset.paths[row] for row in test]
            targets, units = dataset.targets[test], prepared.split.units[test]
            figures, outcomes = measure(predictor, paths, targets, units, seed=seed, progress=progress)
        assert outcomes is not None  # cross-validation has held pictures out
        tested = None if prepared.cross_validate else outcomes
        confidence = describe_test(confident.told, tested, confident.temperature, seed)
        description = describe(given, prepared, backbone, trained, figures, confidence)
        in_training = None if trained.gain is None else trained.gain.precision
        again = pinned(given, trained.features["precision"], in_training)
        description["command"] = command(again, parameters[1], dataset.source)
        write_card(folder, description, figures)
        outcomes.write_csv(folder, dict(zip(dataset.paths, prepared.digests, strict=True)))
        if finish is not None:
            with progress.step("report"):
                notes, network = tuple(progress.reported), (backbone, trained.network)
                made = (folder, description, predictor, figures, outcomes, trained.history)
                finish(Finished(*made, prepared.set_aside, notes, network))
        artifact.write_description(folder, description)
    if trained.tuned and trained.graph is not None:
        trained.graph.unlink(missing_ok=True)  # no other fit has these weights
    return figures


def write_network(
    folder: Path,
    network: Classifier,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    samples: np.ndarray,
    graph: Path | None = None,
    description: dict[str, Any] | None = None,
) -> Predictor:
    """Write `model.onnx` and `weights.safetensors`, prove that they agree, and return the predictor of the folder.

    Args:
        folder: An existing folder, not yet a model.
        network: The trained network; is moved to the CPU and set to `eval()`.
        classes: Names of its outputs.
        preprocessing: What its pictures go through.
        samples: A few pictures as the network sees them, uint8 `(n, h, w, 3)`.
        graph: The ONNX file of the network's backbone, where it is there already.
        description: What the predictor has to know of `model.json`: `output` and `confidence`.

    Raises:
        ModelError: The written network gives other probabilities than torch; or the disk is full.
    """
    from safetensors.torch import save_file

    network = network.cpu().eval()
    with torch.inference_mode():
        expected = {
            name: output.numpy()
            for name, output in zip(network.outputs, network(torch.from_numpy(samples)), strict=True)
        }
    if graph is None:
        to_onnx(network, folder / artifact.NETWORK, preprocessing.image_size, network.outputs)
    else:
        add_head(graph, network, expected["features"].shape[1], folder / artifact.NETWORK)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / artifact.WEIGHTS)
    (folder / artifact.WEIGHTS).chmod(0o644)  # safetensors makes it readable to its owner alone
    known = None if description is None else {"classes": list(classes), **description}
    predictor = Predictor(folder / artifact.NETWORK, tuple(classes), preprocessing, description=known)
    found = predictor.network(many=True).run(samples)  # compiled once, for this proof and for the test pictures
    for name in ("probabilities", *(["novelty"] if network.novelty is not None else [])):
        difference = float(np.abs(found[name] - expected[name]).max())
        if not difference <= MAX_DIFFERENCE:  # also when it is not a number
            raise ModelError(
                f"the {name} of model.onnx differ from torch by {difference:.2g}; at most {MAX_DIFFERENCE} is allowed: "
                "nothing was saved. Please report this with the name of the backbone."
            )
    return predictor


def measure(
    predictor: Predictor,
    paths: Sequence[str],
    targets: np.ndarray,
    units: np.ndarray | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Evaluation, Outcomes]:
    """Return a saved model's figures on pictures, and what it said, through exactly the path that predicting takes.

    Args:
        predictor: The saved model.
        paths: n pictures.
        targets: int `(n,)`, indices into the predictor's classes; or bool `(n, c)`, several labels a picture.
        units: int `(n,)`, equal for pictures that belong together, for which the intervals allow; None if not known.
        seed: Of the bootstrap.
        progress: Is shown the pictures done.

    Raises:
        ImageError: A picture cannot be read; the message names it.
    """
    rows, novelty = [], []
    with (progress or Progress()).step("test", len(paths)) as update:
        for prediction in predictor.stream(paths):
            if prediction.probabilities is None:
                raise ImageError(f"{prediction.name}: {prediction.error}")
            rows.append(prediction.probabilities)
            novelty.append(prediction.novelty)
            update(len(rows))
    named = np.stack(rows)
    scores = None if None in novelty else np.array(novelty, np.float32)
    cuts = None if predictor.thresholds.labels is None else np.asarray(predictor.thresholds.labels)
    outcomes = Outcomes(predictor.classes, tuple(paths), np.asarray(targets), named, scores, cuts, units)
    return outcomes.evaluate(seed), outcomes


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.csv`, one row an epoch, where there are epochs; a figure that a row does not have stays empty."""
    if history:
        with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in history for name in row)))
            writer.writeheader()
            writer.writerows(history)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model's numbers depend on."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe(
    parameters: dict[str, Any],
    prepared: Prepared,
    backbone: Backbone,
    trained: Trained,
    figures: Evaluation,
    confidence: dict[str, Any],
) -> dict[str, Any]:
    """Return what `model.json` says of a model, but for the format version and the files' hashes.

    Args:
        parameters: Of the classifier.
        prepared: The pictures and their split.
        backbone: What was built on.
        trained: What was learned.
        figures: Measured on the saved model, or by cross-validation.
        confidence: Temperature, thresholds, and what the test shows of them.
    """
    return {
        "classes": list(prepared.dataset.classes),
        "preprocessing": backbone.preprocessing.to_json(),
        "backbone": {
            "name": backbone.name,
            "pooling": backbone.pooling,
            "num_features": backbone.num_features,
            "weights": backbone.weights.identity,
            "source": backbone.weights.source,
            "licence": backbone.weights.licence,
        },
        "method": "finetune" if trained.tuned else "frozen",
        "head": {
            "name": parameters["head"],
            "chosen": trained.chosen,
            "layers": describe_layers(trained.network.head),
        },
        "output": parameters["output"],
        "parameters": {**parameters, "weights": parameters["weights"] and Path(parameters["weights"]).name},
        "seed": parameters["seed"],
        "data": {
            "fingerprint": prepared.fingerprint,
            "name": Path(prepared.dataset.source).name,
            "counts": prepared.counts(),
            # Without the user's own folders: a model is made to be passed on.
            "set_aside": [{"path": short_name(path), "reason": why} for path, why in prepared.set_aside],
            # Half of each digest: enough to know a picture again when the model is evaluated.
            "training_digests": sorted(digests.short(prepared.records[row].digest) for row in prepared.training_rows()),
            "skipped": prepared.dataset.skipped,
            "kept_together": prepared.split.kept_together,
        },
        "features": trained.features,
        "confidence": confidence,
        "finetuning": {
            "gain": None if trained.gain is None else trained.gain.to_json(),
            "moved": list(trained.moved),
            "failed": trained.failed,
        },
        "evaluated_by": "repeated cross-validation" if prepared.cross_validate else "test pictures",
        "repeats": len(trained.repeats) or None,
        "validation": as_json(trained.validation),
        "test": as_json(figures),
        "versions": versions(),
    }


def as_json(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """Return an evaluation as plain values, or None."""
    return None if evaluation is None else evaluation.to_json()
