"""Labelled pictures that need nothing but pip: scikit-learn's handwritten digits as a folder of class folders."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from headstart.core.errors import DataError, SettingError

# Pictures of each digit: the test part of the UCI "Optical Recognition of Handwritten Digits" data set
# (Alpaydin and Kaynak 1998, CC BY 4.0), 1,797 pictures of 8 x 8 pixels, which scikit-learn carries.
COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
# Pixels. Of 900 digits, linear models on Lite0 features named 0.68 right enlarged by nearest pixel (a network takes the
# edges of the blocks for a texture that all classes share), 0.83 by bicubic, 0.88 with this margin, as the centre crop
# then cuts no stroke and strokes are finer. A wider one gives more, but then `duplicates` finds distinct digits alike:
# 1 pair without a margin, 90 with this, all of one class, 1,731 (38 of two classes) with twice this.
SIDE, INNER = 64, 48


def write_digits(folder: Path, limit: int | None = None) -> Path:
    """Write handwritten digits as PNG pictures, `folder/3/0007.png` being the eighth picture of a three.

    Dark strokes on white paper, 64 x 64 pixels, grey, with a margin. The folder appears whole or not at all, and
    nothing is done when it is there already.

    Args:
        folder: Where to write; its parents are made.
        limit: At most this many pictures in all, spread evenly over the ten classes; None writes all 1,797.

    Returns:
        `folder`.

    Raises:
        SettingError: `limit` is below 10, one picture of each class.
        DataError: `folder` holds something else, or cannot be written.
    """
    folder = Path(folder)
    if limit is not None and limit < len(COUNTS):
        raise SettingError(f"limit is {limit!r}: give at least {len(COUNTS)}, one picture of each digit, or None.")
    expected = _names(limit)
    try:
        there = _files(folder)
        if there == expected:
            return folder
        if not there <= _names(None):
            other = min(there - _names(None))
            raise DataError(f"{folder} holds {other!r}, which is no digit picture. Name a new or an empty folder.")
        _replace(folder, expected)
    except OSError as error:
        raise DataError(f"the digits cannot be written to {folder}: {error}. Name a folder you may write.") from error
    return folder


def _names(limit: int | None) -> set[str]:
    total = sum(COUNTS) if limit is None else min(limit, sum(COUNTS))
    # Round robin: picture 0 of every digit, then picture 1, …, so that any limit is as even as it can be.
    rounds = ((index, digit) for index in range(max(COUNTS)) for digit in range(10) if index < COUNTS[digit])
    return {f"{digit}/{index:04}.png" for (index, digit), _ in zip(rounds, range(total), strict=False)}


def _files(folder: Path) -> set[str]:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, where a folder was expected. Name another folder for the digits.")
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _replace(folder: Path, names: set[str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(draft, names)
        draft.chmod(0o755)  # mkdtemp lets only its owner in
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(folder: Path, names: set[str]) -> None:
    from PIL import Image, ImageOps
    from sklearn.datasets import load_digits

    digits = load_digits()
    seen = [0] * len(COUNTS)
    for ink, digit in zip(digits.images, digits.target, strict=True):
        name = f"{digit}/{seen[digit]:04}.png"
        seen[digit] += 1
        if name in names:
            paper = (255 - ink * (255 / 16)).round().astype("uint8")  # ink is 0 to 16
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            image = Image.fromarray(paper).resize((INNER, INNER), Image.Resampling.BICUBIC)
            ImageOps.expand(image, (SIDE - INNER) // 2, fill=255).save(target)
