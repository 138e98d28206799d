"""Post-training quantisation to 8 bits by NNCF: weights and activations of what leads to the features.

Head and novelty stay in float32: they are next to nothing of the work, and their numbers are compared with thresholds.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from headstart.core.errors import SettingError


def quantize_openvino(model: Any, calibration: np.ndarray | None) -> Any:
    """Return an `openvino.Model` in int8.

    Args:
        model: uint8 `images (n, h, w, 3)` in, `features` among the outputs.
        calibration: uint8 `(n, h, w, 3)`.

    Raises:
        SettingError: NNCF is not installed.
    """
    pictures = _needed(calibration, "nncf")
    stack = [target.get_node() for target in model.output("features").get_node().input_value(0).get_target_inputs()]
    above: dict[str, None] = {}
    while stack:
        node = stack.pop()
        if node.get_type_name() != "Result" and node.get_friendly_name() not in above:
            above[node.get_friendly_name()] = None
            stack += [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
    return _quantize(model, [picture[None] for picture in pictures], list(above))


def quantize_onnx(model: Any, calibration: np.ndarray | None) -> Any:
    """Return an `onnx.ModelProto` in int8, as QuantizeLinear and DequantizeLinear pairs.

    Args:
        model: uint8 `images (n, h, w, 3)` in, `features` among the outputs.
        calibration: uint8 `(n, h, w, 3)`.

    Raises:
        SettingError: NNCF or ONNX Runtime, in which NNCF runs the model, is not installed.
    """
    pictures = _needed(calibration, "nncf", "onnxruntime")
    reached, above = {"features"}, []
    for node in model.graph.node:  # in topological order, as ONNX wants it
        if reached & set(node.input):
            reached |= set(node.output)
            above.append(node.name)
    source = model.graph.input[0].name
    return _quantize(model, [{source: picture[None]} for picture in pictures], above)


def _needed(calibration: np.ndarray | None, *packages: str) -> np.ndarray:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise SettingError(f"int8 needs {' and '.join(missing)}, not installed here: pip install 'headstart[int8]'.")
    if calibration is None or not len(calibration):
        raise SettingError("int8 needs pictures to calibrate on, and there are none: name the training data with data.")
    return calibration


def _quantize(model: Any, items: list[Any], ignored: list[str]) -> Any:
    with _quiet():
        import nncf

        return nncf.quantize(
            model,
            nncf.Dataset(items),
            subset_size=len(items),
            ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's bars and remarks, and what torch says of a missing GPU, off the terminal."""
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
