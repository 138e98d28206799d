"""Engines: run a frozen network fast. OpenVINO on the processor; torch on CUDA and MPS, and where OpenVINO fails.

The engine and its precision are chosen by what the machine has and then checked on a few of the user's own
pictures against torch in float32; one that disagrees is not used, and that is said.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from headstart.core import settings
from headstart.core.errors import CacheError, HeadstartError, SettingError, cache_unwritable
from headstart.core.machine import cores
from headstart.core.predictor import BATCH_SIZE
from headstart.core.progress import Progress
from headstart.core.runtime import Network, Precision, has_bfloat16
from headstart.networks.export import to_onnx

# The median over a few of the pictures, and the worst of them. bfloat16 gives Lite0 a median of 0.9994; a picture with
# nothing in it (hymenoptera's imageNotFound.gif) has 0.993, as there is little that rounding could leave.
MIN_COSINE, MIN_COSINE_OF_ONE = 0.999, 0.98
OUTPUT = "features"


class Engine(Protocol):
    """Runs a frozen network.

    Attributes:
        name: For people, such as `openvino`.
        precision: What the layers compute in.
        workers: How many threads should decode pictures and call `run` side by side.
    """

    name: str
    precision: Precision
    workers: int

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return float32 features `(n, …)` of uint8 images `(n, h, w, 3)`; thread-safe.

        Those of a picture do not depend on how many others there are: not at all up to `BATCH_SIZE`, in last digits
        above.
        """
        ...


class OpenVINOEngine:
    """The network as an ONNX file on the processor, one stream a core."""

    name = "openvino"

    def __init__(self, graph: Path, precision: Precision) -> None:
        self._network = Network(graph, precision=precision, streams=cores())
        self.precision = precision
        self.workers = self._network.streams

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return float32 features `(n, …)` of uint8 images `(n, h, w, 3)`; thread-safe."""
        return self._network.run(_filled(images))[OUTPUT][: len(images)]


class TorchEngine:
    """The torch module itself, on any device, with autocast for bfloat16; calls take turns."""

    name = "torch"

    def __init__(self, network: nn.Module, device: str, precision: Precision = "float32") -> None:
        self._device = torch.device(device)
        self._network = network.to(self._device).to(memory_format=torch.channels_last).eval()
        self._turn = threading.Lock()
        self.precision = precision
        self.workers = cores()

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return float32 features `(n, …)` of uint8 images `(n, h, w, 3)`; thread-safe."""
        autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        with self._turn, torch.inference_mode(), autocast:
            features: torch.Tensor = self._network(torch.from_numpy(_filled(images)).to(self._device))
            return features[: len(images)].float().cpu().numpy()


def _filled(images: np.ndarray) -> np.ndarray:
    """Return images `(n, h, w, 3)` with the last one repeated up to `BATCH_SIZE`.

    Layers are compiled and kernels chosen for a batch size, and a picture's last digits must not depend on how many
    others were left over.
    """
    missing = max(0, BATCH_SIZE - len(images))
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images


def _openvino(
    network: nn.Module, identity: str, image_size: tuple[int, int], device: str, precision: Precision
) -> OpenVINOEngine:
    if device != "cpu":
        raise SettingError(
            f"device is {device!r}, and OpenVINO runs on the processor: choose 'cpu', or torch for others."
        )
    return OpenVINOEngine(graph_file(network, identity, image_size), precision)


def _torch(
    network: nn.Module, identity: str, image_size: tuple[int, int], device: str, precision: Precision
) -> TorchEngine:
    return TorchEngine(network, choose_device(device), precision)


# Every engine by name: how to make it of a network, the name of its graph file in the cache, `(height, width)`, a torch
# device and a precision; a device that it cannot run on is a SettingError. The contract tests run over all of them, and
# `choose_engine` decides which one is used.
Maker = Callable[[nn.Module, str, tuple[int, int], str, Precision], Engine]
ENGINES: dict[str, Maker] = {"openvino": _openvino, "torch": _torch}


def choose_device(device: str) -> str:
    """Return the torch device to use for `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        SettingError: The device does not exist on this machine.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(device.split(":")[0], False):
        usable = " or ".join(repr(name) for name, there in available.items() if there)
        raise SettingError(f"device is {device!r}, which this machine does not have: choose 'auto', {usable}.")
    return device


def choose_precision(precision: str, device: str) -> Precision:
    """Return the precision to try first for `auto`, `float32` or `bfloat16` on a device.

    Raises:
        SettingError: The precision is none of these.
    """
    if precision == "auto":
        if device == "cpu":
            return "bfloat16" if has_bfloat16() else "float32"
        # Without emulation: older cards than Ampere know bfloat16, but are slow in it.
        there = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if there else "float32"
    if precision == "float32":
        return "float32"
    if precision == "bfloat16":
        return "bfloat16"
    raise SettingError(f"precision is {precision!r}: choose 'auto', 'float32' or 'bfloat16'.")


def choose_engine(
    network: nn.Module,
    identity: str,
    samples: np.ndarray,
    device: str,
    precision: Precision,
    progress: Progress,
    rest: nn.Module | None = None,
) -> tuple[Engine, bool]:
    """Return the fastest engine that agrees with torch float32 on the samples, and whether `precision` did not.

    An engine that could not run has not disagreed: it may have lacked memory or space on the disk this once.

    Args:
        network: uint8 `(n, h, w, 3)` -> float32 `(n, …)`, frozen.
        identity: Names the network's graph file in the cache; equal for equal networks.
        samples: A few pictures as the network sees them, uint8 `(n, h, w, 3)`.
        device: A torch device.
        precision: What to try first.
        progress: Is told of a fall-back.
        rest: What follows the network, where that is a part: then the features at the end are what must agree. A map
            in the middle has many small numbers that rounding turns and that no feature notices.
    """
    # Moved before inference mode: what is moved within it can never be trained again, nor loaded into.
    network, rest = network.to("cpu").eval(), None if rest is None else rest.to("cpu").eval()

    def to_the_end(outputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return outputs if rest is None else np.asarray(rest(torch.from_numpy(outputs)).numpy())

    with torch.inference_mode():
        reference = to_the_end(network(torch.from_numpy(samples)).numpy())
    inaccurate = False
    make = ENGINES["openvino" if device == "cpu" else "torch"]
    tries: list[Precision] = ["bfloat16", "float32"] if precision == "bfloat16" else ["float32"]
    for attempt in tries:
        try:
            engine = make(network, identity, samples.shape[1:3], device, attempt)
            agreement = cosines(to_the_end(engine.run(samples)), reference)
        except CacheError:  # torch would compute for hours what cannot be kept, nor the model be saved
            raise
        except (HeadstartError, RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            progress.note(f"The fast engine cannot run this network ({_first_line(error)}); torch does.")
            break
        if np.median(agreement) >= MIN_COSINE and agreement.min() >= MIN_COSINE_OF_ONE:
            return engine, inaccurate
        inaccurate = inaccurate or attempt == precision
        progress.note(
            f"{engine.name} in {attempt} gives features that differ from torch in float32 (median cosine "
            f"{np.median(agreement):.4f}, worst {agreement.min():.4f}; {MIN_COSINE} and {MIN_COSINE_OF_ONE} are "
            "wanted): not used."
        )
    return TorchEngine(network, "cpu"), inaccurate


def graph_file(network: nn.Module, identity: str, image_size: tuple[int, int]) -> Path:
    """Return the network's ONNX file in the cache, written when it is not there.

    Raises:
        CacheError: The cache cannot be written.
    """
    path = settings.cache_folder() / "graphs" / f"{identity}.onnx"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            to_onnx(network, path, image_size, (OUTPUT,))
        except OSError as error:
            raise cache_unwritable(path, error) from error
    return path


def cosines(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the cosine similarities between the rows of two arrays `(n, …)`, float64 `(n,)`.

    Equal rows of zeros give 1, and anything that is not finite -1.
    """
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (features, reference))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore"):
        similar = np.where(norms > 0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1), (a == b).all(axis=1))
    return np.where(np.isfinite(norms), similar, -1.0)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
