"""Bytes of a picture file -> RGB uint8, safely.

Pillow reads the header (never trusting name or suffix), all odd formats and modes; simplejpeg decodes the
pixels of ordinary JPEGs, at a reduced scale where that is enough. Nothing here writes or follows anything.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import simplejpeg

from headstart.core import crafted
from headstart.core.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image, ImageFile

MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 1024 * 1024
# Only these decoders are ever run: Pillow knows formats (EPS, PDF) that start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO", "PPM")
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .mpo .ppm .pgm .pnm".split()
)
_EMPTY = "the file is empty (0 bytes). Replace it or leave it out."
_FILTERS = threading.Lock()
_STRIP_PIXELS = 1_000_000
_EXIF_ORIENTATION = 0x0112
# EXIF orientation -> (flip left-right first?, quarter turns anticlockwise for np.rot90)
_TURNS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}


@dataclass(frozen=True)
class PictureInfo:
    """What the header of a picture says, before EXIF rotation: format name, size in pixels, Pillow mode.

    `whole` says whether its decoder has to hold all of it at full size, 4 to 15 bytes a pixel; of an ordinary JPEG it
    holds no more than what is asked for.
    """

    format: str
    width: int
    height: int
    mode: str
    whole: bool = True


def read(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file.

    Raises:
        ImageError: The path is missing, no regular file, empty, larger than `MAX_BYTES` or not readable.
    """
    try:
        with open(path, "rb", opener=_open_without_blocking) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ImageError(f"the file has {size:,} bytes; at most {MAX_BYTES:,} are read. Make it smaller.")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError("there is no such file. Check the path.") from None
    except IsADirectoryError:
        raise ImageError("this is a folder, where a picture file was expected. Name the files in it.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"the file cannot be read: {reason}. Check its permissions.") from None
    if not data:
        raise ImageError(_EMPTY)
    return data


def _open_without_blocking(path: str, flags: int) -> int:
    # A named pipe would block for ever, a device could be endless: open without waiting, then look at what it is.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        raise ImageError("it is a device or a pipe, where a picture file was expected. Leave it out.")
    return descriptor


def inspect(data: bytes, max_pixels: int = MAX_PIXELS) -> PictureInfo:
    """Return what the header says, without decoding pixels.

    Raises:
        ImageError: The bytes are no picture of a known format, or it has more than `max_pixels` pixels.
    """
    with _open(data, max_pixels) as image:
        by_rows = _for_simplejpeg(image) and not image.info.get("progressive")
        return PictureInfo(str(image.format), image.width, image.height, image.mode, whole=not by_rows)


def decode(data: bytes, min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a picture into RGB.

    EXIF rotation is applied, transparency is laid over white, 16-bit grey keeps its high byte, and of an
    animation the first frame is taken. Colour profiles are ignored, as everywhere in ImageNet practice.

    Args:
        data: The bytes of the file.
        min_size: `(height, width)`: a JPEG may be decoded at the smallest scale (eighths) that is no smaller
            than this on both sides; None decodes at full size. Orientation is taken care of.

    Returns:
        uint8 array of shape `(height, width, 3)`.

    Raises:
        ImageError: Unknown format, truncated or damaged, or more than `MAX_PIXELS` pixels; one sentence.
    """
    with _open(data) as image:
        orientation = _orientation(image)
        pixels = None
        if _for_simplejpeg(image):
            pixels = _decode_jpeg(data, min_size, turned=orientation >= 5)
        if pixels is None:
            pixels = _decode_with_pillow(image, data)
    flip, turns = _TURNS.get(orientation, (False, 0))
    if flip:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(np.rot90(pixels, turns) if turns else pixels)


def _open(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(_EMPTY)
    crafted.refuse(data)
    try:
        _prepare_pillow(heif=data[4:8] == b"ftyp")
        _keep_pillow_quiet()
        image = Image.open(BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError:
        raise ImageError(_too_large("far too many", max_pixels)) from None
    except UnidentifiedImageError:
        raise ImageError(_unknown_format(data)) from None
    except Exception as error:  # Pillow's parsers raise many types on hostile headers
        raise ImageError(f"its header is damaged ({_short(error)}). Save the picture again or leave it out.") from None
    if image.width * image.height > max_pixels:
        raise ImageError(_too_large(f"{image.width} x {image.height}", max_pixels))
    if image.width < 1 or image.height < 1:
        raise ImageError(f"it is {image.width} x {image.height} pixels. Leave it out.")
    crafted.refuse_slow_decoder(image)
    return image


@cache
def _prepare_pillow(*, heif: bool) -> None:
    """Let Pillow read its formats, and HEIC where the plug-in is installed; AVIF comes with Pillow itself."""
    from PIL import Image

    Image.init()
    if heif:
        try:
            import pillow_heif
        except ImportError:
            return
        pillow_heif.register_heif_opener()


def _keep_pillow_quiet() -> None:
    """Ignore Pillow's warning from 89 megapixels on: the limit here is ours, and its error line is enough.

    The filters belong to all threads, so they are touched only where somebody else has put one before ours.
    """
    from PIL import Image

    ours = ("ignore", None, Image.DecompressionBombWarning, None, 0)
    if warnings.filters[:1] != [ours]:
        with _FILTERS:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _orientation(image: Image.Image) -> int:
    try:
        if image.format == "PNG" and "exif" not in image.info:  # it may stand behind the pixels
            image.load()
        crafted.refuse_exif(_exif(image))
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except ImageError:
        raise
    except Exception:  # damaged EXIF is no reason to refuse the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(image: Image.Image) -> bytes:
    """Return the bytes that Pillow would take for EXIF."""
    found = image.info.get("exif")
    if found is None and (text := image.info.get("Raw profile type exif")):  # as ImageMagick writes it into a PNG
        found = bytes.fromhex("".join(text.split("\n")[3:]))
    return found or b""


def _for_simplejpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")


def _decode_jpeg(data: bytes, min_size: tuple[int, int] | None, *, turned: bool) -> np.ndarray | None:
    """Decode with libjpeg-turbo, or return None where Pillow should judge (warnings, odd colour spaces)."""
    height, width = min_size or (0, 0)
    if turned:
        height, width = width, height
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=1, strict=True)
        return pixels
    except ValueError:
        return None


def _decode_with_pillow(image: ImageFile.ImageFile, data: bytes) -> np.ndarray:
    try:
        if any(tile[0] == "ppm" for tile in image.tile):
            return _decode_ppm(image, data)
        image.load()
        return _to_rgb(image)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("there is not enough memory to decode it. Make it smaller.") from None
    except Exception as error:  # Pillow's decoders raise many types on damaged data
        raise ImageError(f"it is damaged or cut off ({_short(error)}). Save it again or leave it out.") from None


def _decode_ppm(image: ImageFile.ImageFile, data: bytes) -> np.ndarray:
    """Decode a binary PPM or PGM whose largest value is its own, which Pillow does a byte at a time in Python."""
    start, mode, largest = image.tile[0].offset, image.mode, int(cast("tuple[Any, ...]", image.tile[0].args)[1])
    if mode not in ("L", "I", "RGB"):
        raise ImageError("it is a PPM of an unusual kind, which is not read. Save it as PNG.")
    channels = 3 if mode == "RGB" else 1
    values = np.frombuffer(
        data, ">u2" if largest > 255 else np.uint8, image.width * image.height * channels, offset=start
    )
    full = 65535 if mode == "I" else 255
    scaled = np.minimum(np.round(np.arange(np.iinfo(values.dtype).max + 1) / largest * full), full).astype(np.uint16)
    table = (scaled >> 8 if mode == "I" else scaled).astype(np.uint8)
    pixels = table[values].reshape(image.height, image.width, channels)
    return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Return the pixels of a decoded picture, a strip at a time: each copy of a large picture is large, too."""
    if image.mode == "F":
        raise ImageError("its pixels are floating-point numbers of unknown range. Save it with 8 or 16 bits.")
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        return _strip_to_rgb(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _strip_to_rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _strip_to_rgb(image: Image.Image) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255 instead of scaling
        high = (np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 3, axis=2)
    if image.has_transparency_data or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _unknown_format(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "it is a HEIC picture, which needs a plug-in: pip install 'headstart[heif]'."
    return "it is not a picture of a known format (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF). Replace it or leave it out."


def _too_large(size: str, limit: int) -> str:
    return f"it has {size} pixels; at most {limit / 1_000_000:g} megapixels are read. Make it smaller."


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
