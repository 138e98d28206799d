"""A torch network -> `model.onnx`, the file that everything else runs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from headstart.core.replacing import new_file
from headstart.networks.novelty import Novelty

OPSET = 17
# One class a picture, or several labels; the names are those of Keras.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda logits: torch.softmax(logits, dim=1),
    "sigmoid": torch.sigmoid,
}


def activation_of(output: object) -> str:
    """Return the activation after the head of a model whose `output` is `softmax`, `sigmoid` or `multilabel`.

    One sigmoid output for two classes is a softmax over zero and that output (`layers.AgainstZero`).
    """
    return "sigmoid" if output == "multilabel" else "softmax"


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
    with new_file(path) as temporary, torch.no_grad(), warnings.catch_warnings():
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


def add_head(graph: Path, network: Classifier, num_features: int, path: Path) -> None:
    """Write a features graph with what follows the features on top, as `to_onnx` would write the whole, but at once.

    Args:
        graph: ONNX file of the network's backbone: `images` -> `features (n, num_features)`.
        network: Its head, and its bank where it has one, are what is put on top.
        num_features: Width of the features.
        path: The file to write: `images` -> `probabilities`, `features` and, with a bank, `novelty`.
    """
    import onnx
    from onnx import compose

    names = tuple(name for name in network.outputs if name != "features")
    with tempfile.TemporaryDirectory() as folder:
        top_file = Path(folder) / "head.onnx"
        above = Top(network.head, network.novelty, network.activation)
        _export(above, torch.zeros((2, num_features)), top_file, "features", names)
        whole, top = onnx.load(str(graph)), compose.add_prefix(onnx.load(str(top_file)), "head/")
    ends = {f"head/{name}": name for name in ("features", *names)}
    for node in top.graph.node:
        node.input[:] = [ends.get(name, name) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    whole.graph.node.extend(top.graph.node)
    whole.graph.initializer.extend(top.graph.initializer)
    outputs = {"features": whole.graph.output.pop()}
    for output in top.graph.output:
        output.name = ends[output.name]
        outputs[output.name] = output
    whole.graph.output.extend([outputs[name] for name in network.outputs])
    with new_file(path) as temporary:
        temporary.write_bytes(whole.SerializeToString())


class Top(nn.Module):
    """What follows the features: float32 `(n, d)` -> probabilities `(n, c)` and, with a bank, novelty `(n,)`."""

    def __init__(self, head: nn.Module, novelty: Novelty | None, activation: str = "softmax") -> None:
        super().__init__()
        self.activation = activation
        self.head = head
        self.novelty = novelty

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return probabilities and, with a bank, novelty of `features (n, d)`."""
        probabilities = ACTIVATIONS[self.activation](self.head(features))
        return (probabilities,) if self.novelty is None else (probabilities, self.novelty(features))


class Classifier(nn.Module):
    """Backbone, head, activation and the bank of novelty as one network: what is saved, exported and evaluated.

    `forward` takes uint8 `(n, h, w, 3)` and returns `(probabilities (n, c), features (n, d))` and, with a bank,
    `novelty (n,)`; `outputs` are their names. `activation` is one of `ACTIVATIONS`.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, novelty: Novelty | None = None, activation: str = "softmax"
    ) -> None:
        super().__init__()
        self.activation = activation
        self.backbone = backbone
        self.head = head
        self.novelty = novelty

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns, in its order."""
        return ("probabilities", "features") if self.novelty is None else ("probabilities", "features", "novelty")

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return probabilities, features and, with a bank, novelty of uint8 `images (n, h, w, 3)`."""
        features = self.backbone(images)
        probabilities = ACTIVATIONS[self.activation](self.head(features))
        return (probabilities, features) if self.novelty is None else (probabilities, features, self.novelty(features))
