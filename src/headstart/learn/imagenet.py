"""Predicting ImageNet's classes with a backbone as it is: a model folder without any training, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from headstart.core import artifact, settings
from headstart.core.errors import CacheError, ModelError, WeightsError
from headstart.core.predictor import Predictor
from headstart.networks import CATALOG


def imagenet_predictor(name: str, *, weights: str | None = None) -> Predictor:
    """Return a predictor of the 1,000 ImageNet classes (Russakovsky et al. 2015, arXiv:1409.0575).

    The first call writes a model folder into the cache; later calls read it and need no torch. Classes are WordNet
    ids (`n02123045`); `predictor.description["class_names"]` tells what they mean.

    Args:
        name: A backbone.
        weights: A file with its weights instead of the usual ones.

    Raises:
        WeightsError: The weights cannot be had, or bring no ImageNet classes.
        SettingError: There is no such backbone.
        CacheError: The cache cannot be written.
    """
    source = artifact.file_sha256(Path(weights)) if weights and Path(weights).is_file() else "usual"
    if weights is None and name in CATALOG and not CATALOG[name].classifier:
        raise _without_classifier(name)  # before anything is fetched
    identity = hashlib.sha256(json.dumps([name, source, artifact.FORMAT_VERSION]).encode()).hexdigest()[:16]
    folder = settings.cache_folder() / "imagenet" / f"{name.replace('/', '_')}-{identity}"
    if folder.exists():
        try:
            return artifact.load(folder)
        except ModelError:  # damaged: made again below
            shutil.rmtree(folder, ignore_errors=True)
    _check_cache(folder.parent)
    _write(folder, name, weights)
    return artifact.load(folder)


def _without_classifier(name: str) -> WeightsError:
    able = ", ".join(entry.name for entry in CATALOG.values() if entry.classifier)
    return WeightsError(
        f"the weights of {name} bring no classifier, only the layers below it, and cannot name ImageNet's classes. "
        f"These can: {able}. `headstart models` tells which are usable now."
    )


def _check_cache(folder: Path) -> None:
    """Raise CacheError, before any work, where the cache cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CacheError(
            f"{folder}, where the ImageNet model of a backbone is kept, cannot be written: {error.strerror}. Set "
            "HEADSTART_CACHE to a folder that can be written."
        ) from error


def _write(folder: Path, name: str, weights: str | None) -> None:
    import numpy as np

    from headstart.learn.save import versions, write_network
    from headstart.networks import load_backbone
    from headstart.networks.export import Classifier
    from headstart.networks.imagenet import imagenet_classes

    backbone = load_backbone(name, weights=weights)
    if backbone.classifier is None and "flatten" not in backbone.pooling and name.startswith("vgg"):
        backbone = load_backbone(name, weights=weights, pooling="flatten")  # VGG's classifier reads the whole map
    if backbone.classifier is None:
        raise _without_classifier(name)
    classes = imagenet_classes()
    samples = np.random.default_rng(0).integers(0, 256, (2, *backbone.preprocessing.image_size, 3), np.uint8)
    network = Classifier(backbone.network, backbone.classifier)
    with artifact.new_model_folder(folder) as temporary:
        write_network(temporary, network, [one.id for one in classes], backbone.preprocessing, samples)
        description = {
            "classes": [one.id for one in classes],
            "class_names": {one.id: one.name for one in classes},
            "preprocessing": backbone.preprocessing.to_json(),
            "backbone": {"name": name, "weights": backbone.weights.identity, "source": backbone.weights.source},
            "method": "none",
            "versions": versions(),
        }
        artifact.write_description(temporary, description)
