"""Pictures that an export is tried on: ordinary ones, and every odd kind that a user's folder may hold, as bytes."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def gradient(height: int = 120, width: int = 160) -> np.ndarray:
    """Return a smooth coloured picture, uint8 `(height, width, 3)`, that no flip or turn leaves the same."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = 255 * x / width, 255 * y / height, 255 * (x + y < (width + height) / 3)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a picture file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def odd_pictures() -> dict[str, bytes]:
    """Return a picture file of each odd kind by name, most of them of the same gradient."""
    return dict(_odd_pictures())


@cache  # the huge one and AVIF take half a second to write
def _odd_pictures() -> dict[str, bytes]:
    from PIL import Image

    rgb = Image.fromarray(gradient())
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = (np.asarray(rgb.convert("L")).astype(np.uint16) << 8) + 77
    frames = [rgb, Image.new("RGB", rgb.size)]
    return {
        "plain jpeg": encoded(rgb, "JPEG", quality=95),
        "grey jpeg": encoded(rgb.convert("L"), "JPEG"),
        "cmyk jpeg": encoded(rgb.convert("CMYK"), "JPEG"),
        "turned jpeg": encoded(rgb, "JPEG", exif=turned),
        "progressive jpeg": encoded(rgb, "JPEG", progressive=True),
        "png": encoded(rgb, "PNG"),
        "alpha png": encoded(alpha, "PNG"),
        "grey alpha png": encoded(alpha.convert("LA"), "PNG"),
        "palette png": encoded(rgb.quantize(64), "PNG"),
        "transparent palette png": encoded(rgb.quantize(64), "PNG", transparency=0),
        "black and white png": encoded(rgb.convert("1"), "PNG"),
        "16-bit png": encoded(Image.fromarray(deep), "PNG"),
        "16-bit tiff": encoded(Image.fromarray(deep), "TIFF"),
        "gif": encoded(rgb, "GIF"),
        "animated gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "webp": encoded(rgb, "WEBP", quality=95),
        "bmp": encoded(rgb, "BMP"),
        "tiff": encoded(rgb, "TIFF"),
        "avif": encoded(rgb, "AVIF", quality=95),
        "one pixel png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "very wide png": encoded(Image.fromarray(gradient(3, 3000)), "PNG"),
        "very tall jpeg": encoded(Image.fromarray(gradient(4000, 7)), "JPEG"),
        "huge jpeg": encoded(Image.fromarray(gradient(3000, 4000)), "JPEG", quality=50),
    }


def ordinary_pictures(count: int = 24, seed: int = 0) -> dict[str, bytes]:
    """Return generated JPEGs by name: coloured blobs under stripes of every angle and width, no two alike."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    made = {}
    for index in range(count):
        height, width = rng.integers(160, 480, 2)
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        blobs = np.asarray(small.resize((int(width), int(height)), Image.Resampling.BICUBIC), np.float32)
        rows, columns = np.mgrid[:height, :width] / min(height, width)
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.03, 0.5)
        ink = ((columns * np.cos(angle) + rows * np.sin(angle)) / period) % 1 < rng.uniform(0.1, 0.9)
        paint = rng.integers(0, 256, 3).astype(np.float32)
        pixels = np.where(ink[..., None], 0.4 * blobs + 0.6 * paint, blobs).round().astype(np.uint8)
        made[f"generated {index}"] = encoded(Image.fromarray(pixels), "JPEG", quality=90)
    return made
