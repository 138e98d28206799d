"""torch: `weights.safetensors` for those who have the code of the network, `program.pt2` for those who have not.

The program is a `torch.export` one with a free number of pictures; it needs torch alone, neither timm nor headstart.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from headstart.core import exported
from headstart.core.errors import ModelError
from headstart.core.predictor import Predictor
from headstart.use.exporters.contract import Exported, How, Number
from headstart.use.exporters.metadata import as_text, describe

PRECISIONS: tuple[Number, ...] = ("float32",)
PROGRAM = "program.pt2"
WEIGHTS = "weights.safetensors"
_NOTE = f"{exported.KEY}.json"


def export(predictor: Predictor, folder: Path, how: How) -> None:
    """Write the tensors and the program, both of which carry the description.

    Raises:
        ModelError: The predictor's model folder does not say how its network is built.
    """
    import torch
    from safetensors.torch import save_file

    from headstart.networks.restore import load_network

    _, network = load_network(predictor.network_file.parent)
    outputs = list(network.outputs)
    text = as_text(describe(predictor, "torch", how, ("torch", "safetensors"), outputs=outputs))
    example = torch.zeros((2, *predictor.preprocessing.image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, folder / PROGRAM, extra_files={_NOTE: text})
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={exported.KEY: text})
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it readable to its owner alone


def load(folder: Path) -> Exported:
    """Read the program back, after comparing its tensors and description with those of the safetensors file.

    Raises:
        ModelError: A file is damaged, or the two are not of one model.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    notes = {_NOTE: ""}
    try:
        program = torch.export.load(folder / PROGRAM, extra_files=notes)
        with safe_open(folder / WEIGHTS, "pt") as file:
            text = (file.metadata() or {}).get(exported.KEY, "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except (OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder} cannot be read ({reason}). Export the model again.") from error
    held = program.state_dict
    same = set(held) == set(tensors) and all(torch.equal(held[name], tensors[name]) for name in tensors)
    if notes[_NOTE] != text or not same:
        raise ModelError(f"{PROGRAM} and {WEIGHTS} of {folder} are not of one model. Export the model again.")
    description = exported.parse(text, folder / PROGRAM)
    names, module = description["export"]["outputs"], program.module()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            values = module(torch.from_numpy(np.ascontiguousarray(images)))
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    outputs = run(np.zeros((1, *description["preprocessing"]["image_size"], 3), np.uint8))
    size = list(description["preprocessing"]["image_size"])
    exported.check_network(description, size, outputs["probabilities"].shape[1], folder / PROGRAM)
    return Exported(description, run, f"torch {torch.__version__}")
