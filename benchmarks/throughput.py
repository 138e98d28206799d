"""How fast features are extracted: the bound, the pipeline's share of it, and a plain loop beside it.

The bound is `1 / (1/engine + 1/(cores x decode))` with the engine alone and decoding alone measured in the same run.
The plain loop is what a user would write: PIL and timm's transform in a DataLoader, torch in float32.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from harness import FULL, Effort, empty_cache
from rows import Row, row


def measure(data: Path, effort: Effort = FULL) -> list[Row]:
    """Return the rows of hymenoptera and catdog."""
    from headstart.core.pictures import find_files
    from headstart.networks import load_backbone

    backbone = load_backbone("efficientnet_lite0")
    rows: list[Row] = []
    for name in ("hymenoptera", "catdog"):
        files = [str(path) for path in find_files(data / name)]
        rounds = [one_round(files, backbone, batches=4 if effort.quick else 100) for _ in effort.seeds]
        engine, decode, pipeline, plain, bound = (np.array(column) for column in zip(*rounds, strict=True))
        rows += [
            row(f"{name}: engine alone", engine, "pictures/s"),
            row(f"{name}: decoding alone, all cores", decode, "pictures/s"),
            row(f"{name}: bound of the two", bound, "pictures/s"),
            row(f"{name}: whole pipeline with cold cache", pipeline, "pictures/s"),
            row(f"{name}: share of the bound reached", pipeline / bound, "x", at_least=0.85),
            row(f"{name}: plain loop (DataLoader, timm, eager float32)", plain, "pictures/s"),
            row(f"{name}: pipeline against plain loop", pipeline / plain, "x", at_least=7),
        ]
    return rows


def one_round(files: list[str], backbone, batches: int) -> tuple[float, float, float, float, float]:
    """Measure everything once, one after the other, so that each ratio is of one moment of the machine."""
    from headstart.core import images
    from headstart.core.digests import of_picture
    from headstart.core.machine import cores
    from headstart.core.pipeline import map_ordered
    from headstart.core.progress import Progress
    from headstart.learn.features.engines import OpenVINOEngine, choose_precision, graph_file
    from headstart.learn.features.extract import BATCH_SIZE, extract, graph_identity

    load = backbone.preprocessing.load
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda path: load(images.read(path)), files[:50]))
        start = time.perf_counter()
        for _ in pool.map(lambda path: load(images.read(path)), files):
            pass
        decode = len(files) / (time.perf_counter() - start)

    graph = graph_file(backbone.network, graph_identity(backbone, None), backbone.preprocessing.image_size)
    engine = OpenVINOEngine(graph, choose_precision("auto", "cpu"))
    batch = np.stack([load(images.read(path)) for path in files[:BATCH_SIZE]])
    list(map_ordered(engine.run, [batch] * 10, engine.workers))
    start = time.perf_counter()
    for _ in map_ordered(engine.run, [batch] * batches, engine.workers):
        pass
    alone = batches * BATCH_SIZE / (time.perf_counter() - start)

    digests = [of_picture(path) for path in files]
    progress = Progress()
    with empty_cache():
        graph_file(backbone.network, graph_identity(backbone, None), backbone.preprocessing.image_size)
        extract(files, backbone, digests=digests, progress=progress)
    pipeline = len(set(digests)) / progress.seconds["extract"]
    bound = 1 / (1 / alone + 1 / decode)
    return alone, decode, pipeline, plain_loop(files[::4], backbone.preprocessing), bound


def plain_loop(files: list[str], preprocessing) -> float:
    """Return pictures/s of PIL + timm's transform in a DataLoader with 2 workers and torch eager float32, as large."""
    import timm
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    side = preprocessing.image_size[0]
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    transform = timm.data.create_transform(
        side, is_training=False, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=preprocessing.crop_fraction
    )

    class Pictures(Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> torch.Tensor:
            return transform(Image.open(files[index]).convert("RGB"))

    with torch.no_grad():
        model(torch.zeros(32, 3, side, side))
        start = time.perf_counter()
        for images in DataLoader(Pictures(), 32, num_workers=2):
            model(images)
        return len(files) / (time.perf_counter() - start)
