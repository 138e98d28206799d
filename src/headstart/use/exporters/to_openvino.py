"""OpenVINO: `model.xml` and `model.bin`, the fastest form on Intel and other x86 processors; int8 through NNCF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.core import exported
from headstart.core.artifact import file_sha256
from headstart.core.machine import cores
from headstart.core.predictor import Predictor
from headstart.core.runtime import Network, shared_core
from headstart.use.exporters.contract import Exported, How, Number
from headstart.use.exporters.metadata import as_text, describe

PRECISIONS: tuple[Number, ...] = ("float32", "float16", "int8")


def export(predictor: Predictor, folder: Path, how: How) -> None:
    """Write `model.xml`, which carries the description and the sha256 of the weights, and `model.bin`.

    Raises:
        SettingError: int8 is asked for and NNCF is not installed.
    """
    model = _read(predictor.network_file)
    packages: tuple[str, ...] = ("openvino",)
    if how.number == "int8":
        from headstart.use.exporters.quantize import quantize_openvino

        model, packages = quantize_openvino(model, how.calibration), ("openvino", "nncf")
    _save(model, folder, describe(predictor, "openvino", how, packages), half=how.number == "float16")


def describe_again(folder: Path, description: dict[str, Any]) -> None:
    """Write another description into `model.xml`; of a model whose weights are not compressed to float16."""
    _save(shared_core().read_model(str(folder / exported.OPENVINO)), folder, description, half=False)


def _save(model: Any, folder: Path, description: dict[str, Any], *, half: bool) -> None:
    import openvino

    file = folder / exported.OPENVINO
    openvino.save_model(model, str(file), compress_to_fp16=half)
    # Written twice, because only the first writing tells what the weights' sha256 is.
    export = {**description["export"], "weights": file_sha256(file.with_suffix(".bin"))}
    model.set_rt_info(as_text({**description, "export": export}), [exported.KEY])
    openvino.save_model(model, str(file), compress_to_fp16=half)


def _read(file: Path) -> Any:
    """Return an `openvino.Model` whose constants are folded.

    Unfolded, what the reader of ONNX files puts between weights and layers (shapes, reshapes) hides the weights of
    depthwise convolutions from quantisation, and these layers would stay in floating point.
    """
    from openvino.passes import ConstantFolding, Manager

    model, passes = shared_core().read_model(str(file)), Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    return model


def load(folder: Path) -> Exported:
    """Read the model back.

    Raises:
        ModelError: It is damaged, or `model.bin` is not the one that was written.
    """
    import openvino

    file = folder / exported.OPENVINO
    description = exported.read_metadata(file)
    return Exported(description, Network(file, streams=cores()).run, f"OpenVINO {openvino.__version__.split('-')[0]}")
