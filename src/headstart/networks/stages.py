"""A timm model -> its stages by the names people know, the pooling, and its classifier.

| family | stages |
|---|---|
| EfficientNet, MobileNetV3 | `stem`, `blocks.0` … `blocks.6`, `conv_head` |
| ResNet | `stem`, `layer1` … `layer4` |
| VGG | `block1` … `block5`, each with its pooling, as in Keras |
| ConvNeXt | `stem`, `stages.0` … `stages.3` |
| ViT, EVA, DINO | `patch_embed`, `blocks.0` …, `norm` |
| any other | `body` |
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from headstart.core.errors import SettingError
from headstart.networks.pooling import MAP_POOLINGS, POOLINGS, MapPool, TokenPool, UnflattenMap


@dataclass(frozen=True, eq=False)
class Parts:
    """A network taken apart: stages in order by dotted name, pooling, and classifier of the pooled features."""

    stages: dict[str, nn.Module]
    pool: nn.Module
    classifier: nn.Module | None


def take_apart(model: nn.Module, pooling: str | None) -> Parts:
    """Return the parts of a timm model; they share its layers, and the model itself must not be used any more.

    Args:
        model: Any timm model that has its classifier.
        pooling: One that `check_pooling` lets pass.
    """
    family = _FAMILIES[type(model)] if has_stages(model) else _other
    return family(model, pooling)


def check_pooling(model: nn.Module, pooling: str | None, name: str) -> None:
    """Check that the features of a timm model can be pooled in this way; None is the architecture's own.

    Raises:
        SettingError: They cannot; the message calls the model `name`.
    """
    if isinstance(model, MobileNetV3):  # pools before its last layer
        possible: tuple[str, ...] = (_own_pooling(model),)
    elif isinstance(model, VisionTransformer | Eva) and has_stages(model):
        possible = POOLINGS if model.cls_token is not None else MAP_POOLINGS
    else:
        possible = MAP_POOLINGS if has_stages(model) else ()
    if pooling is not None and pooling not in possible:
        ways = f"choose {' or '.join(possible)}, or leave it out" if possible else "leave it out"
        raise SettingError(f"pooling is {pooling!r}, which {name} cannot do: {ways}.")


def has_stages(model: nn.Module) -> bool:
    """Whether the model can be taken apart into more than one stage."""
    if isinstance(model, VisionTransformer) and model.attn_pool is not None:
        return False
    if isinstance(model, Eva) and (model.attn_pool is not None or getattr(model, "rope_mixed", False)):
        return False
    if isinstance(model, ConvNeXt) and not isinstance(getattr(model.head, "pre_logits", nn.Identity()), nn.Identity):
        return False
    return type(model) in _FAMILIES


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Return the first parts of the names of a timm model's classifier tensors, such as `("fc.",)`."""
    if isinstance(model, VGG):
        return ("pre_logits.", "head.", "classifier.")
    names = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _numbered(kind: str, layers: nn.Module) -> dict[str, nn.Module]:
    return {f"{kind}.{number}": layer for number, layer in enumerate(layers.children())}


def _efficientnet(model: EfficientNet, pooling: str | None) -> Parts:
    stages = {
        "stem": _named(conv_stem=model.conv_stem, bn1=model.bn1),
        **_numbered("blocks", model.blocks),
        "conv_head": _named(conv_head=model.conv_head, bn2=model.bn2),
    }
    return Parts(stages, _map_pool(model.global_pool, pooling), _if_own(model.classifier, model, pooling))


def _mobilenetv3(model: MobileNetV3, pooling: str | None) -> Parts:
    stages = {
        "stem": _named(conv_stem=model.conv_stem, bn1=model.bn1),
        **_numbered("blocks", model.blocks),
        "conv_head": _named(
            global_pool=model.global_pool, conv_head=model.conv_head, norm_head=model.norm_head, act2=model.act2
        ),
    }
    return Parts(stages, nn.Flatten(1), model.classifier)


def _resnet(model: ResNet, pooling: str | None) -> Parts:
    stages = {
        "stem": _named(conv1=model.conv1, bn1=model.bn1, act1=model.act1, maxpool=model.maxpool),
        **{f"layer{number}": getattr(model, f"layer{number}") for number in (1, 2, 3, 4)},
    }
    return Parts(stages, _map_pool(model.global_pool, pooling), _if_own(model.fc, model, pooling))


def _vgg(model: VGG, pooling: str | None) -> Parts:
    stages: dict[str, nn.Module] = {}
    layers: list[nn.Module] = []
    for layer in model.features:
        layers.append(layer)
        if isinstance(layer, nn.MaxPool2d):
            stages[f"block{len(stages) + 1}"] = nn.Sequential(*layers)
            layers = []
    # The classifier of the paper reads the whole 7 x 7 map, so only flattened features of 224 px can feed it.
    classifier = nn.Sequential(UnflattenMap(7, 7), model.pre_logits, model.head) if pooling == "flatten" else None
    return Parts(stages, _map_pool(model.head.global_pool, pooling), classifier)


def _convnext(model: ConvNeXt, pooling: str | None) -> Parts:
    head = model.head
    stages = {"stem": model.stem, **_numbered("stages", model.stages)}
    if not isinstance(model.norm_pre, nn.Identity):
        stages["norm_pre"] = model.norm_pre
    pool = _map_pool(head.global_pool, pooling, norm=getattr(head, "norm", None))
    return Parts(stages, pool, _if_own(head.fc, model, pooling))


def _vit(model: VisionTransformer, pooling: str | None) -> Parts:
    blocks, norm = _numbered("blocks", model.blocks), model.norm
    pool = _token_pool(model, pooling, include_prefix=model.pool_include_prefix)
    classifier = _if_own(model.head, model, pooling)
    return Parts({"patch_embed": _Stem(model), **blocks, "norm": norm}, pool, classifier)


def _eva(model: Eva, pooling: str | None) -> Parts:
    blocks, norm = _numbered("blocks", model.blocks), model.norm
    rope: Any = model.rope
    if rope is not None:
        fixed = hasattr(rope, "feat_shape") and not model.dynamic_img_size  # as in timm's `Eva._pos_embed`
        angles = rope.get_embed(**({} if fixed else {"shape": list(model.patch_embed.grid_size)}))
        blocks = {stage: _RotaryBlock(block, angles) for stage, block in blocks.items()}
        model.rope = None  # type: ignore[assignment]  # each block has its angles now
    pool = _token_pool(model, pooling, include_prefix=False)
    classifier = _if_own(model.head, model, pooling)
    return Parts({"patch_embed": _Stem(model), **blocks, "norm": norm}, pool, classifier)


def _other(model: Any, pooling: str | None) -> Parts:
    classifier = model.get_classifier()
    model.reset_classifier(0)  # what is left of it would only be counted, saved and moved about
    return Parts({"body": _Body(model)}, _OwnHead(model), classifier if isinstance(classifier, nn.Linear) else None)


_FAMILIES: dict[type[nn.Module], Callable[..., Parts]] = {
    ConvNeXt: _convnext,
    EfficientNet: _efficientnet,
    Eva: _eva,
    MobileNetV3: _mobilenetv3,
    ResNet: _resnet,
    VGG: _vgg,
    VisionTransformer: _vit,
}


class _Body(nn.Module):
    """The convolutional or transformer part of a timm model, as timm itself runs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.forward_features(images)  # type: ignore[no-any-return, operator]


class _OwnHead(nn.Module):
    """What a timm model makes of its last activations before the classifier.

    The model is kept out of the registered modules: its parameters belong to `_Body` and count once.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.__dict__["model"] = model

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        return model.forward_head(activations, pre_logits=True)  # type: ignore[no-any-return]


class _Stem(_Body):
    """All that a transformer does before its first block: patches, class token, positions.

    timm has this only as the first lines of `forward_features`; with nothing left after them, that is what it runs.
    """

    def __init__(self, model: VisionTransformer | Eva) -> None:
        super().__init__(model)
        model.blocks = nn.Sequential()
        model.norm = model.fc_norm = model.head = nn.Identity()


class _RotaryBlock(nn.Module):
    """A transformer block with its rotary positions (Su et al. 2021, arXiv:2104.09864), which an image size fixes."""

    angles: torch.Tensor

    def __init__(self, block: nn.Module, angles: torch.Tensor) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("angles", angles, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.block(tokens, rope=self.angles)  # type: ignore[no-any-return]


def _if_own(classifier: nn.Module, model: nn.Module, pooling: str | None) -> nn.Module | None:
    """Return the classifier if the features are pooled as it was trained, else None."""
    return classifier if pooling in (None, _own_pooling(model)) else None


def _own_pooling(model: nn.Module) -> str:
    own = getattr(model, "global_pool", None) or getattr(getattr(model, "head", None), "global_pool", "")
    return own if isinstance(own, str) else str(getattr(own, "pool_type", ""))


def _map_pool(own: nn.Module, pooling: str | None, norm: nn.Module | None = None) -> MapPool:
    return MapPool(pooling or str(own.pool_type), norm)


def _token_pool(model: VisionTransformer | Eva, pooling: str | None, *, include_prefix: bool) -> TokenPool:
    own = str(model.global_pool)
    include = include_prefix and pooling in (None, own)
    return TokenPool(pooling or own, model.num_prefix_tokens, include_prefix=include, norm=model.fc_norm)
