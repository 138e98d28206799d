"""Pictures -> features, each picture and view computed once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core import images as decoding
from headstart.core import pictures as sources
from headstart.core.digests import of_bytes
from headstart.core.errors import DataError, ImageError
from headstart.core.pictures import Picture
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.predictor import BATCH_SIZE
from headstart.core.preprocessing import Preprocessing
from headstart.core.progress import Progress
from headstart.core.runtime import Precision
from headstart.learn.augment import Augmentation, view_generator
from headstart.learn.cache import make_room
from headstart.learn.features.engines import Engine, choose_device, choose_engine, choose_precision, graph_file
from headstart.learn.features.pictures import Pictures
from headstart.learn.features.store import Store, size_of

if TYPE_CHECKING:
    from headstart.networks import Backbone

COMMIT_SECONDS = 1.0
# Part of every key: raise it when decoding, resizing, augmentation or the export of networks changes what comes out.
VERSION = 1


@dataclass(frozen=True)
class FeatureSettings:
    """How features are computed.

    Attributes:
        views: Views of each picture; view 0 is plain, the others are augmented.
        augmentation: What happens to views 1 and above.
        seed: Of the augmentation.
        device: `auto`, `cpu`, `cuda`, `mps`.
        precision: `auto`, `float32`, `bfloat16`.
    """

    views: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Features:
    """Cached features of n pictures in v views; `read` loads those that are wanted.

    Attributes:
        precision: What they were computed in.
        computed: How many views were computed now; the others were in the cache.
        engine: Name of the engine that computed them, or `cache`.
    """

    store: Store
    keys: tuple[tuple[bytes, ...], ...]
    precision: Precision
    computed: int
    engine: str

    def read(self, rows: Sequence[int] | np.ndarray | None = None, views: Sequence[int] | None = None) -> np.ndarray:
        """Return features `(rows, views, …)`, float32 unless the cache keeps float16.

        Args:
            rows: Which pictures; None is all.
            views: Which views; None is all.
        """
        rows = range(len(self.keys)) if rows is None else rows
        count = len(self.keys[0]) if self.keys else 1
        views = range(count) if views is None else views
        wanted = [self.keys[row][view] for row in rows for view in views]
        with self.store:
            return self.store.read(wanted).reshape(len(list(rows)), len(list(views)), *self.store.shape)


def extract(
    pictures: Pictures | Sequence[Picture],
    backbone: Backbone,
    how: FeatureSettings | None = None,
    *,
    cut: str | None = None,
    progress: Progress | None = None,
) -> Features:
    """Compute what is not cached yet, and return a handle on the features of all pictures.

    Args:
        pictures: Paths, bytes, arrays or PIL images; or `Pictures`, where their digests are known.
        backbone: The frozen network and its preprocessing.
        how: Views, augmentation, device, precision.
        cut: A stage name: features are the activations just before it, instead of the network's output.
        progress: Is shown the pictures done.

    Raises:
        SettingError: There is no such device or precision.
        DataError: Pictures cannot be read, or have changed; the message names them.
        CacheError: The cache cannot be written.
    """
    how, progress = how or FeatureSettings(), progress or Progress()
    device = choose_device(how.device)
    precision = choose_precision(how.precision, device)
    shape = network_shape(backbone, cut)
    pictures = pictures if isinstance(pictures, Pictures) else Pictures.of(pictures)
    keys = tuple(tuple(_key(digest, view, how) for view in range(how.views)) for digest in pictures.digests)
    engine: Engine | None = None
    store = _store(backbone, cut, precision, shape)
    work = _missing(store, keys)
    # Not because float32 has everything: what another run has left in the cache must change no result.
    if work and precision == "bfloat16" and store.refused:
        _tell_refusal(backbone, progress)
        precision, store = "float32", _store(backbone, cut, "float32", shape)
        work = _missing(store, keys)
    if work:
        how = replace(how, precision=precision)
        # Checked on some of all pictures: which of them are missing must not decide.
        engine, inaccurate = open_engine(pictures.items, backbone, how, cut, progress)
        if engine.precision != precision:
            if inaccurate:
                store.refuse()
            precision, store = engine.precision, _store(backbone, cut, engine.precision, shape)
            work = _missing(store, keys)
    if work and engine is not None:
        one, all_keys = size_of(shape), {key for views in keys for key in views}
        store.let_go()
        make_room(sum(map(len, work.values())) * one, keep=store.folder, anew=len(all_keys) * one)
        work = _missing(store, keys)  # more than before, where the space had to go
        with progress.step("extract", len(work)) as update:
            _compute(pictures, keys, work, backbone, how, engine, store, update)
    return Features(store, keys, precision, sum(map(len, work.values())), engine.name if engine else "cache")


def _tell_refusal(backbone: Backbone, progress: Progress) -> None:
    """Say, once in a run, that what an earlier one found decides."""
    note = (
        f"An earlier run found bfloat16 too inaccurate for {backbone.name}: its features are taken in float32 "
        "(`headstart cache --clear` forgets that)."
    )
    if note not in progress.notes:
        progress.note(note)


def _compute(
    pictures: Pictures,
    keys: Sequence[Sequence[bytes]],
    work: dict[int, list[int]],
    backbone: Backbone,
    how: FeatureSettings,
    engine: Engine,
    store: Store,
    update: Any,
) -> None:
    """Run the engine over the missing views and commit every second; problems are told together at the end."""
    problems: list[str] = []

    def run(rows: list[int]) -> list[tuple[bytes, np.ndarray]]:
        seen: list[np.ndarray] = []
        names: list[bytes] = []
        for row in rows:
            try:
                seen += see(pictures.items[row], pictures.digests[row], work[row], backbone, how)
                names += [keys[row][view] for view in work[row]]
            except ImageError as error:
                problems.append(f"{sources.name(pictures.items[row], row)}: {error}")
        batches = [engine.run(np.stack(batch)) for batch in chunked(seen, BATCH_SIZE)]
        return list(zip(names, (row for batch in batches for row in batch), strict=True))

    rows_at_once = max(1, BATCH_SIZE // max(1, min(map(len, work.values()))))
    done, pending, last = 0, list[tuple[bytes, np.ndarray]](), time.monotonic()
    with store:
        try:
            for results in map_ordered(run, chunked(work, rows_at_once), workers=engine.workers):
                pending += results
                done = min(done + rows_at_once, len(work))
                update(done)
                if time.monotonic() - last > COMMIT_SECONDS:
                    store.write(pending)
                    pending, last = [], time.monotonic()
        finally:  # also after Ctrl-C: what was computed is kept
            if pending:
                store.write(pending)
    if problems:
        raise DataError("pictures changed or became unreadable during the run:\n  " + "\n  ".join(problems))


def see(
    picture: Picture, expected: str, views: list[int], backbone: Backbone, how: FeatureSettings
) -> list[np.ndarray]:
    """Return the wanted views of one picture as the network sees them; the file is decoded once for all.

    Args:
        picture: Path, bytes, array or PIL image.
        expected: The digest of its content.
        views: Numbers of the views; 0 is the plain one.
        backbone: Its preprocessing is used.
        how: Augmentation and seed of views 1 and above.

    Raises:
        ImageError: It cannot be read, or is not what it was when its digest was taken.
    """
    preprocessing = backbone.preprocessing
    data = sources.to_bytes(picture)
    if not isinstance(data, np.ndarray) and isinstance(picture, (str, os.PathLike)) and of_bytes(data) != expected:
        raise ImageError("the file has changed since the run began. Start again.")
    plain = [sources.load(data, preprocessing)] if 0 in views else []
    if views == [0]:
        return plain
    if isinstance(data, np.ndarray):
        image = data
    else:
        height, width = preprocessing.decode_size()
        scale = how.augmentation.decode_scale()
        image = decoding.decode(data, min_size=(round(height * scale), round(width * scale)))
    generators = (view_generator(how.seed, expected, view) for view in views if view)
    return plain + [how.augmentation(image, preprocessing, generator) for generator in generators]


def open_engine(
    pictures: Sequence[Picture], backbone: Backbone, how: FeatureSettings, cut: str | None, progress: Progress
) -> tuple[Engine, bool]:
    """Return the fastest engine of the network below `cut` (None: all of it), checked on a few of the pictures.

    And whether the wanted precision was found too inaccurate for them.
    """
    from headstart.networks import prefix, suffix

    device = choose_device(how.device)
    network, rest = (backbone.network, None) if cut is None else (prefix(backbone, cut), suffix(backbone, cut))
    samples = _samples(pictures, backbone)
    precision = choose_precision(how.precision, device)
    return choose_engine(network, graph_identity(backbone, cut), samples, device, precision, progress, rest)


def backbone_graph(backbone: Backbone) -> Path:
    """Return the ONNX file, uint8 pictures -> features, of a backbone as it was loaded; written when missing."""
    return graph_file(backbone.network, graph_identity(backbone, None), backbone.preprocessing.image_size)


def network_shape(backbone: Backbone, cut: str | None) -> tuple[int, ...]:
    """Return the shape of one picture's features, or of its activations before the stage `cut`."""
    if cut is None:
        return (backbone.num_features,)
    from headstart.networks.outline import output_shapes

    position = 1 + backbone.stages.index(cut)
    return output_shapes(backbone.network[:position], backbone.preprocessing.image_size)[-1]


def _samples(pictures: Sequence[Picture], backbone: Backbone) -> np.ndarray:
    """Return up to eight of the pictures as the network sees them, spread over the whole, for the engine's check."""
    loaded = []
    for picture in pictures[:: max(1, len(pictures) // 8)][:8]:
        try:
            loaded.append(sources.load(picture, backbone.preprocessing))
        except ImageError:  # told by `_compute`, together with all others
            continue
    blank = np.random.default_rng(0).integers(0, 256, (*backbone.preprocessing.image_size, 3), np.uint8)
    return np.stack(loaded or [blank])


def _missing(store: Store, keys: Sequence[Sequence[bytes]]) -> dict[int, list[int]]:
    """Return the views to compute by row; a picture that occurs twice is computed once."""
    work: dict[int, list[int]] = {}
    flat = [(row, view) for row, views in enumerate(keys) for view in range(len(views))]
    with store:
        absent = store.missing([keys[row][view] for row, view in flat])
    taken: set[bytes] = set()
    for position in absent:
        row, view = flat[position]
        if keys[row][view] not in taken:
            taken.add(keys[row][view])
            work.setdefault(row, []).append(view)
    return work


def _key(content: str, view: int, how: FeatureSettings) -> bytes:
    if view == 0:  # the plain view does not depend on the augmentation or its seed
        return bytes.fromhex(content)
    recipe = f"{VERSION}:{content}:{how.augmentation.identity}:{how.seed}:{view}"
    return hashlib.blake2b(recipe.encode(), digest_size=16).digest()


def _store(backbone: Backbone, cut: str | None, precision: Precision, shape: tuple[int, ...]) -> Store:
    identity = backbone.weights.identity
    return feature_space(backbone.name, identity, backbone.pooling, backbone.preprocessing, precision, shape, cut=cut)


def feature_space(
    name: str,
    weights: str,
    pooling: str,
    preprocessing: Preprocessing,
    precision: str,
    shape: tuple[int, ...],
    *,
    cut: str | None,
) -> Store:
    """Return the part of the cache that holds the features of one network, named by all that determines them.

    Args:
        name: Of the backbone.
        weights: Identity of its weights.
        pooling: How the features are pooled.
        preprocessing: What pictures go through.
        precision: What the features are computed in.
        shape: Of one picture's features.
        cut: The stage that the features go into; None where they are the network's output.
    """
    about = {
        "version": VERSION,
        "backbone": name,
        "weights": weights,
        "features": "x".join(map(str, shape)),
        "cut": cut,
        "pooling": pooling,
        "precision": precision,
        "preprocessing": preprocessing.to_json(),
    }
    identity = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return Store(identity, about, shape)


def graph_identity(backbone: Backbone, cut: str | None) -> str:
    """Return the name of a network's graph file in the cache: equal for equal layers, weights and sizes."""
    import torch

    size = backbone.preprocessing.image_size
    parts = [VERSION, backbone.name, backbone.weights.identity, size, backbone.pooling, cut]
    return hashlib.sha256(json.dumps([*parts, torch.__version__]).encode()).hexdigest()[:32]
