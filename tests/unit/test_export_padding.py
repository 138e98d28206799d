"""Padding becomes numbers of the convolutions where that is the same network, and stays where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper

from headstart.use.exporters.padding import fix_padding

SIDE = 9


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: images})


def padded(amounts: list[int], *, value: float = 0.0, mode: str = "constant", own: int = 0, dynamic: bool = True):
    """Pad, then a convolution; the amounts are computed from the picture's height where `dynamic`."""
    rng = np.random.default_rng(0)
    tensors = {
        "amounts": np.array(amounts, np.int64) - (SIDE if dynamic else 0),
        "value": np.array(value, np.float32),
        "weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["picture"], perm=[0, 3, 1, 2]),
        helper.make_node("Shape", ["picture"], ["height"], start=2, end=3),
        helper.make_node("Add", ["amounts", "height"], ["computed"]),
        helper.make_node("Pad", ["picture", "computed" if dynamic else "amounts", "value"], ["wide"], mode=mode),
        helper.make_node("Conv", ["wide", "weight"], ["result"], pads=[own] * 4),
    ]
    source = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", 4, "h", "w"])
    made = [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()]
    graph = helper.make_graph(nodes, "test", [source], [result], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


IMAGES = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("dynamic", [True, False])
def test_padding_with_zeros_moves_into_the_convolution(dynamic: bool) -> None:
    model = padded([0, 0, 1, 0, 0, 0, 2, 3], dynamic=dynamic)
    before = run(model, IMAGES)
    assert fix_padding(model) == 1
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Transpose", "Conv"]
    assert [one.name for one in model.graph.initializer] == ["weight"]
    np.testing.assert_allclose(run(model, IMAGES)[0], before[0], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        {"value": 1.0},
        {"mode": "reflect"},
        {"own": 1},
        {"amounts": [1, 0, 1, 1, 0, 0, 1, 1]},
        {"amounts": [0, 0, -1, 0, 0, 0, 0, 0]},
    ],
)
def test_other_padding_stays(other: dict) -> None:
    model = padded(**{"amounts": [0, 0, 1, 1, 0, 0, 1, 1], **other})
    before = run(model, IMAGES)
    assert fix_padding(model) == 0
    assert "Pad" in [node.op_type for node in model.graph.node]
    np.testing.assert_array_equal(run(model, IMAGES)[0], before[0])


def test_a_network_with_computed_padding_is_the_same_and_has_none_left(tmp_path: Path) -> None:
    from tiny_models import CLASSES

    from headstart.core.preprocessing import Preprocessing
    from headstart.learn.save import write_network
    from headstart.networks.export import Classifier

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = timm.create_model("tf_efficientnet_lite0", num_classes=0)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images.permute(0, 3, 1, 2).float() / 127.5 - 1)

    torch.manual_seed(0)
    network = Classifier(Backbone(), torch.nn.Linear(1280, 3), None).eval()
    samples = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    write_network(tmp_path, network, CLASSES, Preprocessing((64, 64)), samples)
    model = onnx.load(tmp_path / "model.onnx")
    before = run(model, samples)
    assert sum(node.op_type == "Pad" for node in model.graph.node) == fix_padding(model) == 5
    assert not {"Pad", "Shape", "Ceil"} & {node.op_type for node in model.graph.node}
    for one, other in zip(run(model, samples), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
