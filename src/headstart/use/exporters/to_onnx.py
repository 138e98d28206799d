"""ONNX: one file for ONNX Runtime, OpenVINO, TensorRT, browsers and phones; int8 through NNCF."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core import exported
from headstart.core.machine import cores
from headstart.core.predictor import Predictor
from headstart.core.runtime import Network
from headstart.use.exporters.contract import Exported, How, Number, Run
from headstart.use.exporters.metadata import as_text, describe
from headstart.use.exporters.padding import fix_padding

PRECISIONS: tuple[Number, ...] = ("float32", "float16", "int8")


def export(predictor: Predictor, folder: Path, how: How) -> None:
    """Write `model.onnx`, whose metadata carry the description.

    Raises:
        SettingError: int8 is asked for and NNCF or ONNX Runtime is not installed.
    """
    import onnx

    model = onnx.load(str(predictor.network_file))
    fix_padding(model)
    packages: tuple[str, ...] = ("onnx",)
    if how.number == "int8":
        from headstart.use.exporters.quantize import quantize_onnx

        model, packages = quantize_onnx(model, how.calibration), ("onnx", "nncf")
    elif how.number == "float16":
        halve_weights(model)
    onnx.helper.set_model_props(model, {exported.KEY: as_text(describe(predictor, "onnx", how, packages))})
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / exported.ONNX))


def describe_again(folder: Path, description: dict[str, Any]) -> None:
    """Write another description into `model.onnx`."""
    import onnx

    model = onnx.load(str(folder / exported.ONNX))
    onnx.helper.set_model_props(model, {exported.KEY: as_text(description)})
    onnx.save(model, str(folder / exported.ONNX))


def load(folder: Path) -> Exported:
    """Read the model back: into ONNX Runtime where that is installed, else into OpenVINO.

    Raises:
        ModelError: It is damaged.
    """
    import openvino

    file = folder / exported.ONNX
    description = exported.read_metadata(file)
    if find_spec("onnxruntime") is None:
        return Exported(
            description, Network(file, streams=cores()).run, f"OpenVINO {openvino.__version__.split('-')[0]}"
        )
    import onnxruntime

    return Exported(description, in_onnxruntime(file), f"ONNX Runtime {onnxruntime.__version__}")


def in_onnxruntime(file: Path, threads: int = 1) -> Run:
    """Return an ONNX file as a function in ONNX Runtime on the CPU.

    Args:
        file: uint8 `images (n, h, w, 3)` in.
        threads: Of one call; with one, calls side by side move the most pictures.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    source = session.get_inputs()[0].name

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        values = session.run(names, {source: np.ascontiguousarray(images)})
        return {name: np.asarray(value, np.float32) for name, value in zip(names, values, strict=True)}

    return run


def halve_weights(model: Any) -> None:
    """Keep the large float32 tensors of an ONNX model in float16, turned back by a Cast when it is loaded.

    As OpenVINO's compressed models do: half the file, and arithmetic in float32, which every processor has.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor) if tensor.data_type == TensorProto.FLOAT else np.zeros(0)
        if values.size < 64 or not np.abs(values).max() < np.finfo(np.float16).max:
            continue
        half = f"{tensor.name}_float16"
        casts.append(helper.make_node("Cast", [half], [tensor.name], name=f"{half}_cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
