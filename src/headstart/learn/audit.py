"""Every picture read, decoded and hashed once, before anything is learned from them."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from headstart.core import digests, images
from headstart.core.errors import ImageError
from headstart.core.machine import cores
from headstart.core.pipeline import map_ordered
from headstart.learn.dataset import Dataset, check
from headstart.learn.listing import data_error, some

Store = MutableMapping[str, dict[str, Any]]

THUMBNAIL_SIDE = 8
# JPEGs are decoded no smaller than this, and everything larger is shrunk to it before hashing, so that the
# same picture in two sizes or formats takes the same way to its hash.
_HASHED_SIDE = 64
# Pictures above this are decoded one at a time: 100 megapixels take 300 MB, times the number of threads.
_LARGE_PIXELS = 25_000_000
_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """What is known about a picture file.

    Attributes:
        path: The file.
        digest: BLAKE2b-128 of the file's bytes, 32 hexadecimal digits; empty if they cannot be read.
        hash: 64-bit perceptual hash (pHash: signs of the low frequencies of a cosine transform; imagehash).
        width: Pixels, from the header, before EXIF rotation; 0 if unknown.
        height: Likewise.
        format: Pillow's name of the file format, from the header: "JPEG", "PNG", …; empty if unknown.
        problem: Why the picture cannot be used, one sentence; None if it can.
        thumbnail: The picture as 8 x 8 RGB, 192 bytes, row by row; empty if it cannot be used.
    """

    path: str
    digest: str
    hash: int
    width: int
    height: int
    format: str
    problem: str | None = None
    thumbnail: bytes = b""


def audit(
    paths: Iterable[str],
    *,
    store: Store | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> tuple[Record, ...]:
    """Read every file once, decode it, hash it; a picture that cannot be used says why in `Record.problem`.

    JPEGs are decoded at a small scale, which still reads the whole stream, so cut-off files are found.

    Args:
        paths: Picture files.
        store: Mapping from digest to a JSON-able dictionary. What is in it is not decoded again, what is new
            is put into it from the calling thread; lookups come from many threads, one at a time. Problems are
            not stored: a plug-in installed later may solve them.
        progress: Called from this thread with the number of pictures done and their total.
        workers: Threads; None for one a core that this process may use.

    Returns:
        One record for each path, in the same order.
    """
    paths = list(paths)
    reader = _Reader(store if store is not None else {})
    records: list[Record] = []
    try:
        # Closed, so that the threads have ended before what they found is written back.
        with closing(map_ordered(reader.record, paths, workers or cores())) as found:
            for record in found:
                records.append(record)
                if progress is not None:
                    progress(len(records), len(paths))
    finally:
        reader.write_back()  # also after Ctrl-C: the next run continues from here
    return tuple(records)


def set_aside(
    dataset: Dataset, records: Sequence[Record], *, for_training: bool = True
) -> tuple[Dataset, tuple[Record, ...], tuple[tuple[str, str], ...]]:
    """Leave out the pictures that cannot be used, and raise whatever then stands against learning, all at once.

    Args:
        dataset: `n` pictures.
        records: Their `n` records, in the same order.
        for_training: As in `read_dataset`.

    Returns:
        The dataset of the usable pictures, their records, and `(path, reason)` of the others.

    Raises:
        DataError: The usable pictures are too few or do not fit together, or `dataset.problems` is not empty.
            The unreadable pictures are listed too.
    """
    unreadable = tuple((r.path, r.problem) for r in records if r.problem is not None)
    usable = [i for i, r in enumerate(records) if r.problem is None]
    kept = dataset.subset(usable) if unreadable else dataset
    problems, warnings = check(kept) if for_training else ([], [])
    if not usable:
        problems.append("no picture of it can be read.")
    problems = [*dataset.problems, *problems]
    if problems:
        problems += [f"unreadable: {some([path])}: {reason}" for path, reason in unreadable[:20]]
        if len(unreadable) > 20:
            problems.append(f"unreadable: {len(unreadable) - 20:,} pictures more.")
        raise data_error(dataset.source, problems, dataset.warnings)
    told = dict.fromkeys((*dataset.warnings, *warnings))
    return replace(kept, warnings=tuple(told)), tuple(records[i] for i in usable), unreadable


class _Reader:
    """Makes records, in any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._one_large = threading.Lock()
        self._new: Store = {}

    def record(self, path: str) -> Record:
        """Return the record of a file; what is wrong with it is its `problem`."""
        try:
            data = images.read(path)
        except ImageError as error:
            return Record(path, "", 0, 0, 0, "", str(error))
        digest = digests.of_bytes(data)
        with self._lock:
            known = self._new.get(digest) or self._store.get(digest)
        record = _from_json(path, digest, known)
        if record is None:
            record = self._look(path, digest, data)
            if record.problem is None:
                with self._lock:
                    self._new[digest] = _to_json(record)
        return record

    def write_back(self) -> None:
        """Keep the new records for other runs."""
        with self._lock:  # a second Ctrl-C does not wait for the threads
            self._store.update(self._new)

    def _look(self, path: str, digest: str, data: bytes) -> Record:
        record = Record(path, digest, 0, 0, 0, "")
        try:
            info = images.inspect(data)
            record = replace(record, width=info.width, height=info.height, format=info.format)
            with self._one_large if info.width * info.height > _LARGE_PIXELS else nullcontext():
                pixels = images.decode(data, min_size=(_HASHED_SIDE, _HASHED_SIDE))
        except ImageError as error:
            return replace(record, problem=str(error))
        small = _shrunk(pixels, _HASHED_SIDE)
        return replace(record, hash=_perceptual_hash(small), thumbnail=_thumbnail(small))


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height <= side and width <= side:
        return pixels
    size = (min(width, side), min(height, side))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _thumbnail(pixels: np.ndarray) -> bytes:
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8).tobytes()


def _perceptual_hash(pixels: np.ndarray) -> int:
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _to_json(record: Record) -> dict[str, Any]:
    return {
        "version": _FORMAT,
        "hash": f"{record.hash:016x}",
        "width": record.width,
        "height": record.height,
        "format": record.format,
        "thumbnail": base64.b64encode(record.thumbnail).decode("ascii"),
    }


def _from_json(path: str, digest: str, known: dict[str, Any] | None) -> Record | None:
    """Return the stored record, or None where there is none or it is of another version or damaged."""
    try:
        if known is None or known["version"] != _FORMAT:
            return None
        thumbnail = base64.b64decode(known["thumbnail"], validate=True)
        if len(thumbnail) != 3 * THUMBNAIL_SIDE**2:
            return None
        size = int(known["width"]), int(known["height"])
        return Record(path, digest, int(known["hash"], 16), *size, str(known["format"]), None, thumbnail)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
