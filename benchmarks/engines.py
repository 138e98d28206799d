"""One saved model in several engines: OpenVINO in float32, bfloat16 and int8, ONNX Runtime in float32 and int8.

Pictures/s of the network alone, two cores busy, the engines taking turns within each run; and accuracy on catdog
pictures that the model did not learn from. int8 is what `headstart export --int8` writes; what it leaves in floating
point is that of the engine that it is held against. ONNX Runtime runs what `headstart export --to onnx` writes, one
session of one thread called from every core: two threads for one caller were as fast, and without its arena, or its own
layout, it was slower (2026-11-27). The targets are those of batches of 32, as in the design's table of engines;
headstart itself runs batches of 4, where bfloat16 is at its best and int8 gains less, how much less depends on the
processor (docs/experiments.md): both are shown.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from harness import FULL, Effort, empty_cache
from rows import Row, row

BF16, F32 = "int8 against bfloat16, OpenVINO", "int8 against float32, OpenVINO"
BATCHES = (4, 32)
BOUNDS = {f"{name}, batches of {size}": bound for size in BATCHES for name, bound in ((BF16, 1.25), (F32, 2.5))}
PICTURES = 256


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return speed and accuracy of each engine on one catdog model, and the two ratios with a target."""
    from headstart import ImageClassifier
    from headstart.core import images
    from headstart.core.artifact import load
    from headstart.core.machine import cores
    from headstart.core.pipeline import chunked, map_ordered
    from headstart.core.runtime import Network
    from headstart.learn.dataset import read_dataset
    from headstart.use.exporters.data import Data
    from headstart.use.exporters.to_onnx import in_onnxruntime
    from headstart.use.exporters.write import export_model

    with tempfile.TemporaryDirectory() as place, empty_cache():
        classifier = ImageClassifier(method="frozen", seed=0, image_size=effort.side())
        predictor = load(classifier.fit(data / "catdog").save(f"{place}/model"))
        dataset = read_dataset(data / "catdog", for_training=False)
        everything = Data(dataset.paths, np.asarray(dataset.targets))
        export_model(predictor, Path(place, "onnx32"), "onnx", data=everything)  # ONNX Runtime at its best
        for form in ("openvino", "onnx"):
            export_model(predictor, Path(place, form), form, number="int8", data=everything, max_loss=1.0, force=True)
        file, int8, workers = predictor.network_file, Path(place, "openvino", "model.xml"), cores()
        runs = {
            "OpenVINO float32": Network(file, streams=workers).run,
            "OpenVINO bfloat16": Network(file, precision="bfloat16", streams=workers).run,
            "OpenVINO int8": Network(int8, streams=workers).run,
            "OpenVINO int8, the rest in bfloat16": Network(int8, precision="bfloat16", streams=workers).run,
            "ONNX Runtime float32": in_onnxruntime(Path(place, "onnx32", "model.onnx")),
            "ONNX Runtime int8": in_onnxruntime(Path(place, "onnx", "model.onnx")),
        }
        rows = [*_unseen(predictor, dataset)]
        seen = [predictor.preprocessing.load(images.read(dataset.paths[index])) for index in rows]
        targets = np.asarray(dataset.targets)[rows]
        right = {}
        for name, run in runs.items():
            batches = [np.stack(part) for part in chunked(seen, BATCHES[0])]
            outputs = [one["probabilities"] for one in map_ordered(run, batches, workers)]
            right[name] = float((np.concatenate(outputs).argmax(axis=1) == targets).mean())
        speed = {size: _speeds(runs, np.stack(seen[:size]), workers, effort) for size in BATCHES}
    ratios = {}
    for size, by_name in speed.items():
        int8 = by_name["OpenVINO int8, the rest in bfloat16"]
        ratios[f"{BF16}, batches of {size}"] = int8 / by_name["OpenVINO bfloat16"]
        ratios[f"{F32}, batches of {size}"] = by_name["OpenVINO int8"] / by_name["OpenVINO float32"]
    return [
        *(
            row(f"engines: {name}, batches of {size}", values, "pictures/s")
            for size, by_name in speed.items()
            for name, values in by_name.items()
        ),
        *(
            row(f"engines: {name}, accuracy", [value], "", note=f"{len(targets)} pictures not learned from")
            for name, value in right.items()
        ),
        *(row(name, ratio, "x", at_least=BOUNDS.get(name)) for name, ratio in ratios.items()),
    ]


def _unseen(predictor, dataset) -> list[int]:
    """Return the rows of the pictures that the model did not learn from."""
    from headstart.core import digests

    known = digests.trained_on(predictor.description)
    return [index for index, path in enumerate(dataset.paths) if digests.short(digests.of_picture(path)) not in known]


def _speeds(runs: dict, batch: np.ndarray, workers: int, effort: Effort) -> dict[str, np.ndarray]:
    """Return pictures/s of each engine in each run, the engines taking turns."""
    from headstart.core.pipeline import map_ordered

    speeds: dict[str, list[float]] = {name: [] for name in runs}
    batches = [batch] * (4 if effort.quick else max(4, PICTURES // len(batch)))
    for _ in effort.seeds:
        for name, run in runs.items():
            list(map_ordered(run, batches[:4], workers))
            start = time.perf_counter()
            list(map_ordered(run, batches, workers))
            speeds[name].append(len(batch) * len(batches) / (time.perf_counter() - start))
    return {name: np.array(values) for name, values in speeds.items()}
