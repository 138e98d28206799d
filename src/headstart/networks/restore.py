"""A saved model folder -> the network as a torch module again, for what needs its inside: heat maps, exports.

The tensors come from `weights.safetensors`, checked against `model.json` and never unpickled; what they are put into
is built from the names and sizes that `model.json` holds.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.core import artifact
from headstart.core.errors import HeadstartError, ModelError
from headstart.core.preprocessing import Preprocessing
from headstart.networks.backbone import Backbone, load_backbone
from headstart.networks.export import Classifier, activation_of
from headstart.networks.files import Tensors, read_tensors
from headstart.networks.layers import build_layers
from headstart.networks.novelty import Novelty
from headstart.networks.weights import Weights

BANK = "novelty.bank"


def load_network(folder: str | os.PathLike[str]) -> tuple[Backbone, Classifier]:
    """Return the network of a model folder as torch modules, in evaluation mode, on the CPU, in float32.

    Args:
        folder: What `ImageClassifier.save` or `headstart fit` wrote.

    Returns:
        The backbone as it was trained, whose `network` is the classifier's own (its ImageNet classifier is None), and
        the classifier, which gives the probabilities of `model.onnx` within 1e-4.

    Raises:
        ModelError: The folder is no model, is damaged, or says too little of its network.
    """
    folder = Path(folder).absolute()
    description = artifact.read_description(folder)
    file = artifact.verify_file(folder, artifact.WEIGHTS, description)
    try:
        tensors = read_tensors(file)
        backbone = _backbone(description, file)
        with torch.device("meta"):  # the sizes that a file names take no memory
            head = build_layers(description["head"]["layers"])
            novelty = None if BANK not in tensors else Novelty(torch.empty(tensors[BANK].shape))
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{folder / artifact.DESCRIPTION} does not say how the network is built ({type(error).__name__}: {error}): "
            "it was not written by `headstart fit`, or by an older version. Fit the model again."
        ) from error
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    except HeadstartError as error:
        raise ModelError(f"{folder} cannot be built again as a torch network: {error}") from error
    network = Classifier(backbone.network, head, novelty, activation_of(description.get("output")))
    _fill(network, tensors, file)
    return backbone, network.eval()


def _backbone(description: dict[str, Any], file: Path) -> Backbone:
    """Return the backbone that `model.json` names, without its weights."""
    about, preprocessing = description["backbone"], Preprocessing.from_json(description["preprocessing"])
    given = description.get("parameters", {}).get("pooling", about["pooling"])
    backbone = load_backbone(
        about["name"], image_size=preprocessing.image_size, pooling=given, fit=preprocessing.fit, blank=True
    )
    built = {"pooling": backbone.pooling, "num_features": backbone.num_features}
    for name, value in built.items():
        if value != about[name]:
            raise ModelError(
                f"{about['name']} is built with {name} {value!r} by the timm installed here, and the model has "
                f"{about[name]!r}. Install the timm of model.json ({description.get('versions', {}).get('timm')})."
            )
    weights = Weights(about["weights"], about["source"], about["licence"], file)
    return replace(backbone, preprocessing=preprocessing, weights=weights)


def _fill(network: nn.Module, tensors: Tensors, file: Path) -> None:
    """Put the tensors into the network in place, all of them or none.

    Raises:
        ModelError: Names or shapes are not those of the network.
    """
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    unexpected = sorted(set(tensors) - set(wanted))
    reshaped = sorted(name for name in set(wanted) & set(tensors) if wanted[name].shape != tensors[name].shape)
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise ModelError(
            f"{file} does not hold the tensors of the network that model.json describes: {', '.join(problems)}. "
            "Install the versions named in model.json, or fit the model again."
        )
    with torch.no_grad():
        # `assign` takes the tensors as they are: nothing is copied.
        network.load_state_dict(tensors, strict=True, assign=True)
