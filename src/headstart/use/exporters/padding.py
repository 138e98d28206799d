"""Padding that an ONNX file computes anew for every picture -> numbers in its convolutions.

TensorFlow's "same" padding depends on the size of the picture; timm computes it while the network runs, and the file
then holds some eighty nodes for each such convolution. The size is fixed in an export. OpenVINO finds that out by
itself; ONNX Runtime does not, and there the padding also takes the picture out of the layout that convolutions work in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.core.runtime import shared_core


def fix_padding(model: Any) -> int:
    """Move padding with zeros into the convolutions that follow it; return into how many.

    Args:
        model: An `onnx.ModelProto`, one input `(n, h, w, 3)` of fixed height and width; it is changed.
    """
    pads = [node for node in model.graph.node if node.op_type == "Pad" and _fills_with_zeros(node, model)]
    readers: dict[str, list[Any]] = {node.output[0]: [] for node in pads}
    for node in model.graph.node:
        for name in node.input:
            if name in readers:
                readers[name].append(node)
    pads = [node for node in pads if all(map(_takes_padding, readers[node.output[0]]))]
    pads = [node for node in pads if node.output[0] not in {output.name for output in model.graph.output}]
    moved = 0
    for node, amounts in zip(pads, _amounts(model, [node.input[1] for node in pads]), strict=True):
        before, after = amounts[: len(amounts) // 2], amounts[len(amounts) // 2 :]
        if any(before[:2] + after[:2]) or min(amounts) < 0:  # pictures or channels are added, or the rim is cut off
            continue
        for reader in readers[node.output[0]]:
            _set_padding(reader, before[2:] + after[2:])
            reader.input[0] = node.input[0]
            moved += 1
    _remove_unused(model)
    return moved


def _fills_with_zeros(node: Any, model: Any) -> bool:
    from onnx import numpy_helper

    if any(one.name == "mode" and one.s != b"constant" for one in node.attribute) or len(node.input) > 3:
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    known = {one.name: one for one in model.graph.initializer}
    known |= {one.output[0]: one.attribute[0].t for one in model.graph.node if one.op_type == "Constant"}
    return node.input[2] in known and not numpy_helper.to_array(known[node.input[2]]).any()


def _takes_padding(node: Any) -> bool:
    """Whether a node is a convolution of pictures without padding of its own."""
    own = {one.name: one for one in node.attribute}
    automatic = "auto_pad" in own and own["auto_pad"].s not in (b"NOTSET", b"")
    return node.op_type == "Conv" and not automatic and not ("pads" in own and any(own["pads"].ints))


def _amounts(model: Any, names: list[str]) -> list[list[int]]:
    """Return the values of small integer tensors of a model, which do not depend on what the picture shows."""
    import onnx

    if not names:
        return []
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    for name in dict.fromkeys(names):
        asked.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None))
    compiled = shared_core().compile_model(shared_core().read_model(asked.SerializeToString(), b""), "CPU")
    size = [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim]
    results = compiled(np.zeros((1, *size[1:]), np.uint8))
    return [[int(value) for value in results[name]] for name in names]


def _set_padding(node: Any, amounts: list[int]) -> None:
    from onnx import helper

    kept = [one for one in node.attribute if one.name not in ("pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", amounts)])


def _remove_unused(model: Any) -> None:
    needed, kept = {output.name for output in model.graph.output}, []
    for node in reversed(model.graph.node):  # in topological order, as ONNX wants it
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    initializers = [one for one in model.graph.initializer if one.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
