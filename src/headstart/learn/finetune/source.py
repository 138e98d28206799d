"""Where the training loop gets its inputs: activations below the cut, from the cache or computed on the fly.

At the lowest stage of all there is nothing below the cut: the inputs are pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headstart.core import settings
from headstart.core.errors import CacheError, DataError, ImageError
from headstart.core.machine import cores
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.predictor import BATCH_SIZE
from headstart.core.progress import Progress
from headstart.learn.augment import Augmentation
from headstart.learn.features.extract import (
    Features,
    FeatureSettings,
    extract,
    network_shape,
    open_engine,
    see,
)
from headstart.learn.features.store import room

if TYPE_CHECKING:
    from headstart.learn.features.engines import Engine
    from headstart.networks import Backbone

DEFAULT_VIEWS = 4
# LMDB keeps arrays of this size in pages of their own.
_PAGE = 4096


class Source(Protocol):
    """Inputs of pictures by row and view.

    Attributes:
        kind: `cache`, `prefix` or `pixels`.
        views: How many different views of each picture there are.
    """

    @property
    def kind(self) -> str:
        """Where inputs come from."""
        ...

    @property
    def views(self) -> int:
        """How many views there are."""
        ...

    def batches(self, rows: Sequence[np.ndarray], view: int) -> Iterator[np.ndarray]:
        """Yield the inputs of each run of rows: float32 activations `(n, …)` or uint8 pixels `(n, h, w, 3)`.

        Views are counted round: with v of them, `view` means `view % v`.
        """
        ...


@dataclass(frozen=True)
class Pictures:
    """Paths, and the digests of the bytes there."""

    paths: tuple[str, ...]
    digests: tuple[str, ...]


@dataclass(frozen=True)
class CachedSource:
    """Activations that are all in the cache."""

    features: Features
    views: int
    kind: str = "cache"

    def batches(self, rows: Sequence[np.ndarray], view: int) -> Iterator[np.ndarray]:
        """Yield the activations of each run of rows, read by one thread ahead of the training."""
        view = view % self.views
        with self.features.store:
            yield from map_ordered(lambda batch: self.features.read(batch, [view])[:, 0], rows, workers=1)


@dataclass(frozen=True)
class LiveSource:
    """Pixels, or activations of an engine, computed anew for every batch."""

    pictures: Pictures
    backbone: Backbone
    how: FeatureSettings
    engine: Engine | None

    @property
    def kind(self) -> str:
        """Where inputs come from."""
        return "pixels" if self.engine is None else "prefix"

    @property
    def views(self) -> int:
        """How many different views of each picture there are."""
        return self.how.views

    def batches(self, rows: Sequence[np.ndarray], view: int) -> Iterator[np.ndarray]:
        """Yield the inputs of each run of rows, computed ahead of the training.

        An engine's batches are worked on by as many threads as it wants; for pixels half the cores are enough, since
        training on pixels is slower than decoding and needs the cores itself.
        """
        view = view % self.views

        def load(batch: np.ndarray) -> np.ndarray:
            seen = [self._see(row, view) for row in batch]
            if self.engine is None:
                return np.stack(seen)
            return np.concatenate([self.engine.run(np.stack(part)) for part in chunked(seen, BATCH_SIZE)])

        workers = max(1, cores() // 2) if self.engine is None else self.engine.workers
        yield from map_ordered(load, rows, workers=workers)

    def _see(self, row: int, view: int) -> np.ndarray:
        path, digest = self.pictures.paths[row], self.pictures.digests[row]
        try:
            return see(path, digest, [view], self.backbone, self.how)[0]
        except ImageError as error:
            raise DataError(f"{path} changed or became unreadable during the run: {error}") from None


def choose_views(how: FeatureSettings, epochs: int, *, pixels: bool, progress: Progress) -> FeatureSettings:
    """Return the settings with the number of views that training uses.

    Views beyond the epochs are never seen. One view is the plain picture: where augmentation is wanted there are as
    many views as epochs on pixels, which costs nothing, and else `DEFAULT_VIEWS`, which take turns.
    """
    if how.augmentation == Augmentation():
        return replace(how, views=min(how.views, epochs))
    if epochs == 1:
        progress.note("With one epoch only the plain view is seen: the augmentation does nothing in fine-tuning.")
        return replace(how, views=1)
    if how.views > 1:
        return replace(how, views=min(how.views, epochs))
    views = epochs if pixels else min(epochs, DEFAULT_VIEWS)
    progress.note(f"Each training picture is seen in {views} views, which take turns over {epochs} epochs.")
    return replace(how, views=views)


def open_sources(
    train: Pictures, validation: Pictures, backbone: Backbone, how: FeatureSettings, cut: str, progress: Progress
) -> tuple[Source, Source]:
    """Return the inputs of stage `cut` for training, in all views, and for validation, always the plain view.

    Below the first stage there are only pixels. Otherwise the activations are cached, unless they do not fit the
    cache: then the prefix runs again for every batch, and a note says so.

    Args:
        train: The training pictures.
        validation: The validation pictures.
        backbone: Its layers below the cut are frozen.
        how: Views, augmentation, device and precision of the prefix.
        cut: A stage.
        progress: Is shown the extraction, and told of a cache too small.
    """
    plain = replace(how, views=1)
    if cut == backbone.stages[0]:
        return LiveSource(train, backbone, how, None), LiveSource(validation, backbone, plain, None)
    needed = _bytes(backbone, cut, len(train.paths) * how.views + len(validation.paths))
    most = room()
    if needed <= most:
        try:
            learned = _extract(train, backbone, how, cut, progress)
            # A precision that was refused for the one is not tried, and told, again for the other.
            judged = _extract(validation, backbone, replace(plain, precision=learned.precision), cut, progress)
            return CachedSource(learned, how.views), CachedSource(judged, 1)
        except CacheError as error:  # other activations of the same layers fill it, or the disk is full
            reason = str(error)
    else:
        reason = f"they would take {needed / 1e9:.2g} GB, and the limit is {settings.cache_limit() / 1e9:.2g} GB"
        if needed <= settings.cache_limit():
            reason += f", of which checkpoints and the like leave {most / 1e9:.2g} GB (`headstart cache`)"
    progress.note(
        f"The activations below {cut} cannot be cached ({reason}): they are computed again in every epoch. "
        "Raise HEADSTART_CACHE_LIMIT or lower views to train faster."
    )
    engine, _ = open_engine(train.paths, backbone, how, cut, progress)
    return LiveSource(train, backbone, how, engine), LiveSource(validation, backbone, plain, engine)


def _extract(pictures: Pictures, backbone: Backbone, how: FeatureSettings, cut: str, progress: Progress) -> Features:
    return extract(pictures.paths, backbone, how, digests=pictures.digests, cut=cut, progress=progress)


def _bytes(backbone: Backbone, cut: str, arrays: int) -> int:
    """Return what so many activations take in the cache, rounded up to its pages."""
    one = 4 * int(np.prod(network_shape(backbone, cut))) + 16
    return arrays * (-(-one // _PAGE) * _PAGE)
