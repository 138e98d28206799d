"""A pretrained network ready for use: uint8 pictures in, features out, by name."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from headstart.core.errors import SettingError, unknown_name
from headstart.core.preprocessing import Fit, Preprocessing
from headstart.networks import normalize
from headstart.networks.catalog import CATALOG
from headstart.networks.entries import Entry
from headstart.networks.local import HUB_FILES, Found
from headstart.networks.outline import output_shapes
from headstart.networks.stages import Parts, check_pooling, classifier_names, has_stages, take_apart
from headstart.networks.weights import Origin, Weights, find, load_into

IMAGENET_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained network without its classifier.

    Attributes:
        name: The name it was loaded by.
        network: uint8 RGB `(n, h, w, 3)` -> float32 features `(n, d)`, in evaluation mode and not frozen. Its
            children in order are `normalize`, the stages (`_` stands for the dots, which torch forbids) and `pool`.
        stages: Names of the stages that can be cut at or unfrozen, from the picture to the features.
        preprocessing: Picture of any size -> what the network sees.
        num_features: Width d of the features.
        weights: Where the weights come from, and their identity.
        classifier: Features -> 1000 ImageNet logits; None where the weights bring none, or the pooling is not the
            one it was trained with. VGG16 of torchvision has it at 224 px with `pooling="flatten"`.
        pooling: How the features are pooled: `avg`, `max`, `flatten`, `token`, or another of the architecture's own.
    """

    name: str
    network: nn.Sequential
    stages: tuple[str, ...]
    preprocessing: Preprocessing
    num_features: int
    weights: Weights
    classifier: nn.Module | None
    pooling: str


def load_backbone(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    pooling: str | None = None,
    fit: str = "crop",
    blank: bool = False,
) -> Backbone:
    """Load a pretrained backbone.

    Args:
        name: A recommended backbone (`headstart models`) or any timm model, with or without its tag.
        weights: A file with its weights (safetensors, `.pth`; for `vgg16.keras` also Keras's `.h5`) instead of
            the usual sources: cache folder, pip package, hub.
        image_size: Height and width in pixels, or one number for both; None takes what the backbone is best at.
        pooling: `avg`, `max`, `flatten`, `token` (class token of a ViT); None takes the backbone's own.
        fit: How a picture is made to fit: `crop`, `pad` or `squash`.
        blank: Take zeros for weights, and no file: for shapes and preprocessing, never for pictures.

    Raises:
        SettingError: There is no such backbone, or a setting does not suit it.
        WeightsError: The weights are missing, damaged, or belong to another network.
    """
    entry = CATALOG.get(name)
    architecture = name if entry is None else entry.architecture
    record = _record(architecture)
    preprocessing = _preprocessing(entry, record, image_size, fit)
    model = _build(name, architecture, record, preprocessing.image_size)
    pooling = pooling or (entry.pooling if entry is not None else None)
    check_pooling(model, pooling, name)  # before anything is fetched
    caffe = entry is not None and entry.normalization == "caffe"
    if blank:
        found, identity, has_classifier = Found(Path(), "nowhere: zeros"), "", False
        _fill_with_zeros(model)
    else:
        found = find(_origin(name, entry, record), weights)
        identity, has_classifier = load_into(model, found, classifier_names(model), keras=caffe)
    usual = entry.licence if entry is not None else record.get("license") or "unknown: see its model card"
    licence = usual if weights is None else "that of the file given"
    parts = take_apart(model, pooling)
    first = normalize.caffe() if caffe else normalize.scaled(record["mean"], record["std"])
    network = _assemble(first, parts)
    shapes = _shapes(name, network, preprocessing.image_size)
    return Backbone(
        name=name,
        network=network,
        stages=tuple(parts.stages),
        preprocessing=preprocessing,
        num_features=shapes[-1][0],
        weights=Weights(identity, found.source, licence, found.file),
        classifier=_imagenet(parts.classifier, shapes) if has_classifier else None,
        pooling=str(getattr(parts.pool, "pooling", "own")),
    )


def prefix(backbone: Backbone, cut: str) -> nn.Sequential:
    """Return the network below a stage: uint8 pictures -> the activations that go into stage `cut`.

    The layers are shared with `backbone.network`.

    Raises:
        SettingError: The backbone has no stage of that name.
    """
    return backbone.network[: _position(backbone, cut)]


def suffix(backbone: Backbone, cut: str) -> nn.Sequential:
    """Return the network from a stage on: what `prefix` gives -> features `(n, d)`; the layers are shared.

    Raises:
        SettingError: The backbone has no stage of that name.
    """
    return backbone.network[_position(backbone, cut) :]


def _position(backbone: Backbone, cut: str) -> int:
    if cut not in backbone.stages:
        raise unknown_name(f"stage of {backbone.name}", cut, backbone.stages, f"`headstart summary {backbone.name}`")
    return 1 + backbone.stages.index(cut)


def check_name(name: str, image_size: int | tuple[int, int] | None = None, fit: str = "crop") -> None:
    """Raise SettingError, with near matches, if there is no backbone of that name, or size and fit are none at all.

    No weights are looked for, and nothing is built: whether a size suits the network is known when it is loaded.
    """
    entry = CATALOG.get(name)
    _preprocessing(entry, _record(name if entry is None else entry.architecture), image_size, fit)


def _record(name: str) -> dict[str, Any]:
    """Return what timm records for pretrained weights: input size, mean, licence, hub repository and so on."""
    architecture, tag = split_model_name_tag(name)
    config = get_pretrained_cfg(architecture) if is_model(architecture) else None
    if config is None:
        raise unknown_name(
            "backbone", name, {*CATALOG, *timm.list_models()}, "`headstart models` or timm.list_models()"
        )
    if tag and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise unknown_name("backbone", name, tagged, f"timm.list_pretrained('{architecture}.*')")
    config = get_pretrained_cfg(name)
    return dict(config.to_dict()) if config is not None else {}  # type: ignore[no-untyped-call]


def _origin(name: str, entry: Entry | None, record: dict[str, Any]) -> Origin:
    if entry is not None:
        return Origin(name, entry.repository, package=entry.package, megabytes=entry.download_mb)
    files = (record["hf_hub_filename"],) if record.get("hf_hub_filename") else HUB_FILES
    return Origin(name, record.get("hf_hub_id"), files)


def _preprocessing(
    entry: Entry | None, record: dict[str, Any], image_size: int | tuple[int, int] | None, fit: str
) -> Preprocessing:
    if image_size is None:
        image_size = entry.image_size if entry is not None else tuple(record["input_size"][1:])
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    fraction = entry.crop_fraction if entry is not None else None
    return Preprocessing(image_size=size, fit=cast(Fit, fit), crop_fraction=fraction or record["crop_pct"])


def _build(name: str, architecture: str, record: dict[str, Any], image_size: tuple[int, int]) -> nn.Module:
    """Build the architecture for an image size, its tensors without values where that is safe."""
    # Position embeddings have one entry a patch, so these architectures must know the size when they are built.
    settings: dict[str, Any] = {"img_size": image_size} if record.get("fixed_input_size") else {}
    model = None
    with contextlib.suppress(Exception), torch.device("meta"):  # not every architecture can be built without values
        model = timm.create_model(architecture, **settings)
    if model is None or not has_stages(model) or set(dict(model.named_buffers())) - set(model.state_dict()):
        try:
            model = timm.create_model(architecture, **settings)
        except Exception as error:  # timm asserts, or raises whatever a layer raises
            raise _does_not_suit(name, image_size, error) from error
    if isinstance(model, VisionTransformer | Eva):
        _check_patches(name, model.patch_embed.patch_size, image_size)
    return model.eval()


def _fill_with_zeros(model: nn.Module) -> None:
    if any(tensor.is_meta for tensor in model.parameters()):
        model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()


def _check_patches(name: str, patch: tuple[int, int], image_size: tuple[int, int]) -> None:
    if any(side % step for side, step in zip(image_size, patch, strict=True)):
        near = " x ".join(str(max(1, round(side / step)) * step) for side, step in zip(image_size, patch, strict=True))
        raise SettingError(
            f"image_size is {image_size[0]} x {image_size[1]}, but {name} sees patches of {patch[0]} x {patch[1]} px: "
            f"give multiples of these, such as {near}."
        )


def _assemble(first: nn.Module, parts: Parts) -> nn.Sequential:
    stages = {stage.replace(".", "_"): module for stage, module in parts.stages.items()}
    network = nn.Sequential(OrderedDict({"normalize": first, **stages, "pool": parts.pool})).eval()
    return network.to(memory_format=torch.channels_last)  # twice as fast on processors, in float32 too


def _shapes(name: str, network: nn.Sequential, image_size: tuple[int, int]) -> list[tuple[int, ...]]:
    try:
        return output_shapes(network, image_size)
    except Exception as error:  # whatever a layer raises when nothing is left of the picture
        raise _does_not_suit(name, image_size, error) from error


def _does_not_suit(name: str, image_size: tuple[int, int], error: Exception) -> SettingError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return SettingError(
        f"{name} cannot see pictures of {image_size[0]} x {image_size[1]} px ({reason}): give another image_size."
    )


def _imagenet(classifier: nn.Module | None, shapes: list[tuple[int, ...]]) -> nn.Module | None:
    """Return the classifier if it names ImageNet's classes from features of this width, else None."""
    if isinstance(classifier, nn.Linear):
        fits = (classifier.in_features, classifier.out_features) == (*shapes[-1], IMAGENET_CLASSES)
        return classifier if fits else None
    # VGG's reads the whole map, which has to be the 7 x 7 of 224 px.
    return classifier if isinstance(classifier, nn.Sequential) and shapes[-2][1:] == (7, 7) else None
