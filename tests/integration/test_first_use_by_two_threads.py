"""OpenVINO's binding dead-locks where its first use is by two threads at once; `Network` makes its first use itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from headstart.networks.export import to_onnx

TWO_THREADS = """
import sys, threading
from pathlib import Path
import numpy as np
from headstart.core.runtime import Network
network = Network(Path(sys.argv[1]), streams=2)
together = threading.Barrier(2)
def work():
    together.wait()
    network.run(np.zeros((4, 32, 32, 3), np.uint8))
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


class Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(1, 2))


@pytest.mark.slow
def test_two_threads_may_be_the_first_to_run_a_network(tmp_path) -> None:
    # Without the first use in the constructor one process in seven hung for ever (2026-11-24, two cores).
    file = tmp_path / "mean.onnx"
    to_onnx(Mean(), file, (32, 32), ("features",))
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, "-c", TWO_THREADS, file], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout == "done\n", done.stderr
