"""A torch network -> `model.onnx`, the file that everything else runs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import nn

OPSET = 17


def to_onnx(network: nn.Module, path: Path, image_size: tuple[int, int], outputs: tuple[str, ...]) -> None:
    """Write a network as an ONNX file, complete or not at all.

    Args:
        network: uint8 `(n, h, w, 3)` in, one tensor or a tuple of tensors `(n, …)` out; is set to `eval()`.
        path: The file to write; its folder exists.
        image_size: `(height, width)` that the file will accept; n is free.
        outputs: A name for each output.
    """
    _export(network, torch.zeros((2, *image_size, 3), dtype=torch.uint8), path, "images", outputs)


def _export(network: nn.Module, example: torch.Tensor, path: Path, source: str, outputs: tuple[str, ...]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The TorchScript exporter takes 1 s where the newer one takes 15 (docs/decisions/0001-dependencies.md);
            # it says on every call that it is the older one.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(),
                (example,),
                str(temporary),
                dynamo=False,
                opset_version=OPSET,
                input_names=[source],
                output_names=list(outputs),
                dynamic_axes={name: {0: "n"} for name in (source, *outputs)},
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def add_head(graph: Path, head: nn.Module, num_features: int, path: Path) -> None:
    """Write a features graph with a head and softmax on top, as `to_onnx` would write the whole, but at once.

    Args:
        graph: ONNX file of the unchanged backbone: `images` -> `features (n, num_features)`.
        head: Features -> logits `(n, c)`.
        num_features: Width of the features.
        path: The file to write: `images` -> `probabilities`, `features`.
    """
    import onnx
    from onnx import compose

    top_file = path.with_name(f".{path.name}.{os.getpid()}.head")
    try:
        export = nn.Sequential(head, nn.Softmax(dim=1))
        _export(export, torch.zeros((2, num_features)), top_file, "features", ("probabilities",))
        whole, top = onnx.load(str(graph)), compose.add_prefix(onnx.load(str(top_file)), "head/")
    finally:
        top_file.unlink(missing_ok=True)
    ends = {"head/features": "features", "head/probabilities": "probabilities"}
    for node in top.graph.node:
        node.input[:] = [ends.get(name, name) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    whole.graph.node.extend(top.graph.node)
    whole.graph.initializer.extend(top.graph.initializer)
    features = whole.graph.output.pop()
    probabilities = top.graph.output[0]
    probabilities.name = "probabilities"
    whole.graph.output.extend([probabilities, features])
    _write(path, whole.SerializeToString())


class Classifier(nn.Module):
    """Backbone, head and softmax as one network: what is saved, exported and evaluated.

    `forward` takes uint8 `(n, h, w, 3)` and returns `(probabilities (n, c), features (n, d))`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and features of uint8 `images (n, h, w, 3)`."""
        features = self.backbone(images)
        return torch.softmax(self.head(features), dim=1), features
