"""Pictures as `data:` addresses, small enough that a page holds hundreds of them."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np

from headstart.core import images
from headstart.core.errors import ImageError
from headstart.core.pictures import Picture, to_bytes
from headstart.core.preprocessing import shrink

# The longer side, in pixels; 2.4 KB on average for photographs.
THUMBNAIL_SIDE = 128
# Of WebP, which took 2.4 KB where JPEG at quality 80 took 3.5 (90 pictures of hymenoptera and catdog).
QUALITY = 75


def thumbnail_uri(picture: Picture, side: int = THUMBNAIL_SIDE, quality: int = QUALITY) -> str:
    """Return a picture, shrunk to at most `side` pixels and never enlarged, as a `data:` address.

    Args:
        picture: Path, bytes, RGB uint8 array `(h, w, 3)` or PIL image.
        side: The longer side, in pixels.
        quality: Of WebP, 0 to 100.

    Raises:
        ImageError: It cannot be read; one sentence without the path.
    """
    data = to_bytes(picture)
    pixels = data if isinstance(data, np.ndarray) else images.decode(data, min_size=(side, side))
    return picture_uri(shrink(pixels, side), quality)


def thumbnail_or_none(picture: Picture, side: int = THUMBNAIL_SIDE) -> str | None:
    """Return `thumbnail_uri` of a picture, None where it cannot be read."""
    try:
        return thumbnail_uri(picture, side)
    except ImageError:
        return None


def picture_uri(pixels: np.ndarray, quality: int = QUALITY) -> str:
    """Return RGB uint8 pixels `(h, w, 3)` as they are, as a `data:` address of WebP."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
