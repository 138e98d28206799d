"""One saved model in several engines: OpenVINO in float32, bfloat16 and int8, ONNX Runtime in float32 and int8.

Pictures/s of the network alone, two cores busy, the engines taking turns within each run; and accuracy on catdog
pictures that the model did not learn from. int8 is what `headstart export --int8` writes; what it leaves in floating
point is that of the engine that it is held against.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from harness import FULL, Effort, empty_cache
from rows import Row, row

BOUNDS = {"int8 against bfloat16, OpenVINO": 1.25, "int8 against float32, OpenVINO": 2.5}
BATCH = 4


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return speed and accuracy of each engine on one catdog model, and the two ratios with a target."""
    from headstart import ImageClassifier
    from headstart.core import images
    from headstart.core.artifact import load
    from headstart.core.pipeline import chunked, map_ordered
    from headstart.core.runtime import Network, cores
    from headstart.learn.dataset import read_dataset
    from headstart.use.exporters.to_onnx import in_onnxruntime
    from headstart.use.exporters.write import Data, export_model

    with tempfile.TemporaryDirectory() as place, empty_cache():
        classifier = ImageClassifier(method="frozen", seed=0, image_size=effort.side())
        predictor = load(classifier.fit(data / "catdog").save(f"{place}/model"))
        dataset = read_dataset(data / "catdog", for_training=False)
        everything = Data(dataset.paths, np.asarray(dataset.targets))
        for form in ("openvino", "onnx"):
            export_model(predictor, Path(place, form), form, number="int8", data=everything, max_loss=1.0, force=True)
        file, int8, workers = predictor.network_file, Path(place, "openvino", "model.xml"), cores()
        runs = {
            "OpenVINO float32": Network(file, streams=workers).run,
            "OpenVINO bfloat16": Network(file, precision="bfloat16", streams=workers).run,
            "OpenVINO int8": Network(int8, streams=workers).run,
            "OpenVINO int8, the rest in bfloat16": Network(int8, precision="bfloat16", streams=workers).run,
            "ONNX Runtime float32": in_onnxruntime(file),
            "ONNX Runtime int8": in_onnxruntime(Path(place, "onnx", "model.onnx")),
        }
        rows = [*_unseen(predictor, dataset)]
        seen = [predictor.preprocessing.load(images.read(dataset.paths[index])) for index in rows]
        targets = np.asarray(dataset.targets)[rows]
        batches = [np.stack(part) for part in chunked(seen, BATCH)]
        right = {}
        for name, run in runs.items():
            outputs = [one["probabilities"] for one in map_ordered(run, batches, workers)]
            right[name] = float((np.concatenate(outputs).argmax(axis=1) == targets).mean())
        speeds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in effort.seeds:
            for name, run in runs.items():
                speeds[name].append(_speed(run, [batches[0]] * (4 if effort.quick else 60), workers, map_ordered))
    speed = {name: np.array(values) for name, values in speeds.items()}
    ratios = [
        speed["OpenVINO int8, the rest in bfloat16"] / speed["OpenVINO bfloat16"],
        speed["OpenVINO int8"] / speed["OpenVINO float32"],
    ]
    return [
        *(row(f"engines: {name}", values, "pictures/s") for name, values in speed.items()),
        *(
            row(f"engines: {name}, accuracy", [value], "", note=f"{len(targets)} pictures not learned from")
            for name, value in right.items()
        ),
        *(row(name, ratio, "x", at_least=bound) for (name, bound), ratio in zip(BOUNDS.items(), ratios, strict=True)),
    ]


def _unseen(predictor, dataset) -> list[int]:
    """Return the rows of the pictures that the model did not learn from."""
    from headstart.learn.features.extract import digest

    known = set(predictor.description["data"]["training_digests"])
    return [index for index, path in enumerate(dataset.paths) if digest(path)[:16] not in known]


def _speed(run, batches, workers, map_ordered) -> float:
    list(map_ordered(run, batches[:4], workers))
    start = time.perf_counter()
    done = sum(len(batch) for batch, _ in zip(batches, map_ordered(run, batches, workers), strict=True))
    return done / (time.perf_counter() - start)
