"""What a caller may hand over as "pictures", and finding picture files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from headstart.core import images
from headstart.core.errors import DataError, ImageError, SettingError

if TYPE_CHECKING:
    from PIL import Image

    from headstart.core.preprocessing import Preprocessing

Picture: TypeAlias = "str | os.PathLike[str] | bytes | np.ndarray | Image.Image"


def as_list(pictures: Any) -> list[Picture]:
    """Return one picture, a folder of pictures, or an iterable of pictures, as a list.

    A uint8 array `(h, w, 3)` is one picture; `(n, h, w, 3)` are n.

    Raises:
        SettingError: It is none of these.
        DataError: A folder holds no picture.
    """
    if isinstance(pictures, (str, os.PathLike)) and os.path.isdir(pictures):
        found = list(find_files(pictures))
        if not found:
            raise DataError(f"{os.fspath(pictures)!r} holds no picture. Name a folder that does.")
        return list(found)
    if isinstance(pictures, (str, os.PathLike, bytes)) or hasattr(pictures, "getexif"):
        return [pictures]
    if isinstance(pictures, np.ndarray) and pictures.dtype != object:
        return [pictures] if pictures.ndim == 3 else list(pictures)
    try:
        return list(pictures)
    except TypeError:
        raise SettingError(
            f"pictures is a {type(pictures).__name__}: give a path, a folder, bytes, a uint8 RGB array, a PIL image, "
            "or a list of these."
        ) from None


def to_bytes(picture: Picture) -> bytes | np.ndarray:
    """Return the bytes of a picture's file, or its pixels where it is an array.

    Raises:
        ImageError: It cannot be read or is none of the kinds of picture; one sentence without the path.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ImageError(
                f"it is an array of {picture.dtype} {picture.shape}; give RGB uint8 of shape (height, width, 3)."
            )
        return picture
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        return images.read(picture)
    if hasattr(picture, "getexif"):
        # Through a lossless file in memory, so that mode and rotation are treated exactly as for a file.
        buffer = BytesIO()
        lossless = picture.convert("RGB") if picture.mode in ("CMYK", "YCbCr", "HSV", "LAB") else picture
        try:
            lossless.save(buffer, "PNG", exif=picture.getexif(), compress_level=0)
        except (OSError, ValueError) as error:
            raise ImageError(f"it is a PIL image of mode {picture.mode}, which has no RGB form ({error}).") from None
        return buffer.getvalue()
    raise ImageError(f"it is a {type(picture).__name__}; give a path, bytes, a uint8 RGB array or a PIL image.")


def load(picture: Picture, preprocessing: Preprocessing) -> np.ndarray:
    """Return what the network sees of a picture, uint8 `(*preprocessing.image_size, 3)`.

    Raises:
        ImageError: It cannot be read; one sentence without the path.
    """
    data = to_bytes(picture)
    return preprocessing(data) if isinstance(data, np.ndarray) else preprocessing.load(data)


def name(picture: Picture, index: int) -> str:
    """Return what to call a picture in messages: its path, or its position."""
    return os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else f"picture {index}"


def find_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the picture files below a folder, by suffix, sorted by path, without hidden ones or links to folders."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in images.SUFFIXES:
                yield Path(parent, file)


def expand(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the picture paths that command-line arguments name: files, folders and glob patterns.

    A name that matches nothing is passed on, so that it gets its own error line.
    """
    for argument in arguments:
        if os.path.isdir(argument):
            yield from (str(path) for path in find_files(argument))
        elif not os.path.exists(argument) and (matches := sorted(glob.glob(argument, recursive=True))):
            yield from expand(matches)
        else:
            yield argument
