"""LiteRT (TensorFlow Lite): `model.tflite` for phones and small boards, one picture at a time.

The description stands in a zip archive behind the network, where TensorFlow Lite's own metadata keep their files:
readers of the network stop before it, `unzip` and `zipfile` find it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core import exported
from headstart.core.errors import ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.use.exporters.contract import Exported, How, Number
from headstart.use.exporters.metadata import as_text, describe

if TYPE_CHECKING:
    from headstart.networks.novelty import Novelty

PRECISIONS: tuple[Number, ...] = ("float32",)
FILE = "model.tflite"
_NOTE = f"{exported.KEY}.json"


def export(predictor: Predictor, folder: Path, how: How) -> None:
    """Write `model.tflite`, with the description and `labels.txt` in the archive behind the network.

    Raises:
        SettingError: litert-torch is not installed.
        ModelError: The predictor's model folder does not say how its network is built.
    """
    if find_spec("litert_torch") is None:
        raise SettingError("litert needs litert-torch, which is not installed here: pip install 'headstart[litert]'.")
    import torch

    from headstart.networks.restore import load_network

    _, network = load_network(predictor.network_file.parent)
    outputs = list(network.outputs)
    if network.novelty is not None:
        network.novelty = _without_sort(network.novelty)
    example = torch.zeros((1, *predictor.preprocessing.image_size, 3), dtype=torch.uint8)
    level = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            import litert_torch

            litert_torch.convert(network, (example,)).export(str(folder / FILE))
    finally:
        logging.disable(level)
    text = as_text(describe(predictor, "litert", how, ("litert-torch", "torch"), outputs=outputs))
    with zipfile.ZipFile(folder / FILE, "a") as archive:
        archive.writestr(_NOTE, text)
        archive.writestr("labels.txt", "\n".join(predictor.classes).encode("utf-8", "backslashreplace"))


def _without_sort(novelty: Novelty) -> Any:
    """Return the same novelty for an interpreter that has no sort: the largest similarity is taken out k times."""
    import torch
    from torch.nn import functional as F

    class Repeated(torch.nn.Module):
        bank: torch.Tensor
        rows: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bank", novelty.bank)
            self.register_buffer("rows", torch.arange(len(novelty.bank)))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            similarities = F.normalize(features, dim=1, eps=1e-12) @ self.bank.T
            total = torch.zeros_like(similarities[:, 0])
            for _ in range(novelty.neighbours):
                total = total + similarities.amax(dim=1)
                taken = self.rows == similarities.argmax(dim=1, keepdim=True)
                similarities = similarities - 4.0 * taken.float()
            return 1.0 - total.div(float(novelty.neighbours))

    return Repeated()


def load(folder: Path) -> Exported:
    """Read the model back into LiteRT's interpreter.

    Raises:
        SettingError: ai-edge-litert is not installed.
        ModelError: It is damaged, or does not describe itself.
    """
    if find_spec("ai_edge_litert") is None:
        raise SettingError("litert needs ai-edge-litert, not installed here: pip install 'headstart[litert]'.")
    from ai_edge_litert.interpreter import Interpreter

    file = folder / FILE
    try:
        with zipfile.ZipFile(file) as archive:
            text = archive.read(_NOTE).decode("ascii")
        interpreter = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
    except (OSError, ValueError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{file} cannot be read ({error}). Export the model again.") from error
    description = exported.parse(text, file)
    (source,), (signature,) = interpreter.get_input_details(), interpreter.get_signature_list().values()
    names = dict(
        zip(
            sorted(signature["outputs"], key=lambda name: int(name.rpartition("_")[2])),
            description["export"]["outputs"],
            strict=True,
        )
    )
    (argument,) = signature["inputs"]
    runner = interpreter.get_signature_runner()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        # The network takes one picture; copies, because the interpreter writes the next answer over the last.
        rows = [
            {name: np.array(value) for name, value in runner(**{argument: image[None]}).items()} for image in images
        ]
        return {names[name]: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    size = [int(side) for side in source["shape"][1:3]]
    width = run(np.zeros((1, *size, 3), np.uint8))["probabilities"].shape[1]
    exported.check_network(description, size, width, file)
    return Exported(description, run, f"LiteRT {importlib.metadata.version('ai-edge-litert')}")
