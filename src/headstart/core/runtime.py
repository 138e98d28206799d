"""Running an ONNX network on the CPU through OpenVINO, the fast way: uint8 in, float32 out, one stream a core.

Both the saved model (float32, so that a picture has the same answer on every machine) and feature extraction
(the fastest precision of the machine) run through `Network`.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.machine import cores

Precision = Literal["float32", "bfloat16"]
_HINT = {"float32": "f32", "bfloat16": "bf16"}


@functools.cache
def shared_core() -> Any:
    """Return the one OpenVINO core of this process, kept until it ends.

    Its CPU plug-in gives signals a stack of their own; when the last core goes, that stack does not go cleanly, and the
    next Ctrl-C would end the process by a segmentation fault.
    """
    import openvino

    core = openvino.Core()
    # Mapped weights would end the process (SIGBUS) when somebody writes over the file of a model that is being served.
    core.set_property({"ENABLE_MMAP": False})
    return core


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 faster than in float32, as OpenVINO reports it."""
    return "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Network:
    """An ONNX file compiled for this CPU; `run` may be called from several threads at once.

    Args:
        path: The ONNX file: one uint8 input `(n, h, w, 3)`, any number of named float32 outputs.
        precision: What the layers compute in; inputs and outputs do not change.
        streams: How many `run` calls proceed side by side; each stream has `cores / streams` threads.
            One stream answers a single picture soonest; one a core moves the most pictures.

    Raises:
        ModelError: OpenVINO cannot read or compile the file.
    """

    def __init__(self, path: Path, *, precision: Precision = "float32", streams: int = 1) -> None:
        import openvino

        self.precision = precision
        self.streams = max(1, min(streams, cores()))
        try:
            self._compiled = shared_core().compile_model(
                str(path),
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": _HINT[precision],
                    "NUM_STREAMS": self.streams,
                    "INFERENCE_NUM_THREADS": cores(),
                },
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{path} is not a network OpenVINO can run ({reason}). Make the model again.") from error
        # OpenVINO's binding sets up its table of array types on first use, holding a C++ guard while it waits for
        # Python's lock: two threads that both come first wait for each other for ever. So the first use is here.
        openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True)
        self.outputs = tuple(output.get_any_name() for output in self._compiled.outputs)
        self._local = threading.local()

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return each output by name for uint8 `images (n, h, w, 3)`; float32 arrays whose first axis is n."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        results = request.infer({0: np.ascontiguousarray(images)}, share_inputs=True)
        return {
            name: np.array(value, dtype=np.float32) for name, value in zip(self.outputs, results.values(), strict=True)
        }
