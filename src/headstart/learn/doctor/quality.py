"""Pictures that are too dark, too bright, blurry, empty, tiny or of an extreme shape, and files that are odd.

The measure of blur was chosen on 200 photographs of hymenoptera and catdog, blurred by a Gaussian of 0.5, 1 and 2 % of
their longer side: where it flags 1 % of the sharp ones it finds 0.94, 1.00 and 1.00 of the blurred, cleanvision's
(taken at 64 pixels) 0.03, 0.18 and 0.62; it takes 0.9 ms of a core, cleanvision 11 (docs/decisions/0008-doctor.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from headstart.core import images
from headstart.core.errors import ImageError
from headstart.core.machine import cores
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.progress import Progress
from headstart.learn.audit import Record, Store

SIDE = 224
# The first three are cleanvision's defaults (0.3.7), on the same scale; the fourth, in bits, too.
DARK, BRIGHT, SHAPE, PLAIN = 0.32, 0.95, 0.35, 3.0
# Flags 6 of the 1,399 pictures of catdog, none of hymenoptera; and 0.53, 0.99 and 1.00 of 200 that were blurred by 0.5,
# 1 and 2 % of their longer side.
BLURRY = 0.12
TINY = 32
# Grey levels, so that noise on an even ground does not count as detail.
_NOISE = 4.0
_VERSION = 1

_SUFFIXES = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "MPO": ".jpg .jpeg .jpe .jfif .mpo",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp .dib",
    "TIFF": ".tif .tiff",
    "AVIF": ".avif",
    "HEIF": ".heic .heif",
    "PPM": ".ppm .pgm .pnm",
}
_MODES = {
    "CMYK": "colours for printing (CMYK)",
    "RGBA": "an alpha channel, laid over white",
    "LA": "an alpha channel, laid over white",
    "PA": "an alpha channel, laid over white",
    "P": "a palette of at most 256 colours",
    "1": "black and white pixels only",
    "L": "no colours",
    "I;16": "16 bits a pixel, of which 8 are used",
    "I;16B": "16 bits a pixel, of which 8 are used",
    "I": "16 bits a pixel, of which 8 are used",
}


@dataclass(frozen=True)
class Quality:
    """What can be measured on the pixels of one picture, shrunk to at most `SIDE` pixels.

    Attributes:
        bright: Brightness, 0 to 1, that one pixel in a hundred exceeds.
        dark: Brightness that one pixel in twenty stays below.
        entropy: Of the grey levels, in bits (0 to 8).
        detail: Standard deviation of the Laplacian over that of the grey levels (Pech-Pacheco et al. 2000,
            doi:10.1109/ICPR.2000.903548, with the contrast divided out); low is blurry.
        mode: Pillow's name of the pixel format.
    """

    bright: float
    dark: float
    entropy: float
    detail: float
    mode: str


def look(data: bytes) -> Quality:
    """Measure a picture file.

    Raises:
        ImageError: It cannot be read.
    """
    mode = images.inspect(data).mode
    pixels = images.decode(data, min_size=(SIDE, SIDE))
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    red, green, blue = np.moveaxis(pixels.astype(np.float32) / 255, 2, 0)
    # Perceived brightness as cleanvision has it (the HSP colour model).
    brightness = np.sqrt(0.241 * red * red + 0.691 * green * green + 0.068 * blue * blue)
    dark, bright = np.quantile(brightness, [0.05, 0.99])
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    there = shares[shares > 0]
    detail = cv2.Laplacian(grey.astype(np.float32), cv2.CV_32F).std() / (grey.std() + _NOISE)
    return Quality(float(bright), float(dark), float(np.abs((there * np.log2(there)).sum())), float(detail), mode)


def qualities(records: Sequence[Record], store: Store, progress: Progress | None = None) -> list[Quality | None]:
    """Measure pictures, each content once and for ever.

    Args:
        records: Of readable pictures.
        store: Mapping from a key to plain values, where the measures of earlier runs are and the new ones are put.
        progress: Is shown the pictures done.

    Returns:
        One for each record; None where the file has vanished or changed since it was audited.
    """
    progress = progress or Progress()
    known = {record.digest: _known(store, record.digest) for record in records}
    work = [record for digest, record in {r.digest: r for r in records}.items() if known[digest] is None]

    def run(part: list[Record]) -> list[Quality | None]:
        return [_look(record) for record in part]

    done = 0
    with progress.step("look at pictures", len(work)) as update:
        for part, found in zip(chunked(work, 16), map_ordered(run, chunked(work, 16), cores()), strict=True):
            for record, quality in zip(part, found, strict=True):
                known[record.digest] = quality
                if quality is not None:
                    store[_key(record.digest)] = asdict(quality)
            done += len(part)
            update(done)
    return [known[record.digest] for record in records]


def oddities(record: Record, quality: Quality | None) -> dict[str, tuple[str, float]]:
    """Return what is the matter with one picture's pixels or file: kind -> (reason, score)."""
    found: dict[str, tuple[str, float]] = {}
    shorter, longer = sorted((record.width, record.height))
    if shorter < TINY:
        found["tiny"] = (f"{record.width} × {record.height} pixels", float(TINY - shorter))
    if shorter < SHAPE * longer:
        found["long"] = (f"{record.width} × {record.height} pixels, 1 to {longer / shorter:.1f}", longer / shorter)
    reasons = []
    suffix = os.path.splitext(record.path)[1].lower()
    if suffix not in _SUFFIXES.get(record.format, suffix).split():
        reasons.append(f"the name ends in {suffix or 'nothing'}, the content is {record.format}")
    if quality is None:
        return found | ({"odd": ("; ".join(reasons), 2.0)} if reasons else {})
    if quality.bright < DARK:
        found["dark"] = (f"99 % of the pixels are darker than {quality.bright:.2f} of white", DARK - quality.bright)
    if quality.dark > BRIGHT:
        found["bright"] = (f"95 % of the pixels are brighter than {quality.dark:.2f} of white", quality.dark - BRIGHT)
    if quality.entropy < PLAIN:
        found["plain"] = (f"{quality.entropy:.1f} of 8 bits a pixel", PLAIN - quality.entropy)
    elif quality.detail < BLURRY:
        found["blurry"] = (
            f"detail {quality.detail:.2f}; sharp pictures have {BLURRY} and more",
            BLURRY - quality.detail,
        )
    if quality.mode in _MODES:
        reasons.append(f"it has {_MODES[quality.mode]}")
    return found | ({"odd": ("; ".join(reasons), float(len(reasons)))} if reasons else {})


def _look(record: Record) -> Quality | None:
    try:
        return look(images.read(record.path))
    except ImageError:
        return None


def _key(digest: str) -> str:
    return f"{digest}:quality:{_VERSION}"


def _known(store: Store, digest: str) -> Quality | None:
    try:
        return Quality(**store[_key(digest)])
    except (KeyError, TypeError):  # not there, or of another version
        return None
