"""Decoding: every odd picture becomes RGB, everything broken becomes one clear sentence."""

import os
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from odd_pictures import encoded, gradient, odd_pictures
from PIL import Image, ImageOps

from headstart.core import images
from headstart.core.errors import ImageError

ODD = odd_pictures()
# Pixels that must come out as the gradient went in, give or take the loss of the format.
FAITHFUL = ["plain jpeg", "progressive jpeg", "png", "webp", "bmp", "tiff", "avif", "animated gif", "gif"]


@pytest.mark.parametrize("name", ODD)
def test_every_odd_picture_becomes_contiguous_rgb(name: str) -> None:
    image = images.decode(ODD[name])
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous


@pytest.mark.parametrize("name", FAITHFUL)
def test_colours_come_out_as_they_went_in(name: str) -> None:
    difference = np.abs(images.decode(ODD[name]).astype(int) - gradient())
    assert difference.mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_agrees_with_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(gradient()), "JPEG", exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    found = images.decode(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 1.5


def test_transparency_is_laid_over_white() -> None:
    clear = encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "PNG")
    assert (images.decode(clear) == 255).all()


def test_16_bit_grey_keeps_its_high_byte() -> None:
    data = encoded(Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16)), "PNG")
    assert images.decode(data)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_a_large_jpeg_is_decoded_at_the_smallest_sufficient_scale() -> None:
    data = encoded(Image.fromarray(gradient(800, 1200)), "JPEG")
    small = images.decode(data, min_size=(200, 200))
    assert small.shape == (200, 300, 3)
    assert images.decode(data, min_size=(201, 200)).shape[0] >= 201


def test_scaled_decoding_respects_rotation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(gradient(400, 800)), "JPEG", exif=exif)
    height, width = images.decode(data, min_size=(400, 100)).shape[:2]
    assert (height, width) == (400, 200)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)), kind)
    with pytest.raises(ImageError, match="cut off|damaged|not a picture"):
        images.decode(whole[: len(whole) // 2])


def test_a_truncated_jpeg_is_refused_when_decoded_small() -> None:
    data = ODD["huge jpeg"]
    with pytest.raises(ImageError, match="cut off"):
        images.decode(data[: len(data) * 3 // 4], min_size=(64, 64))


def test_a_file_that_lies_about_its_type_is_read_for_what_it_is(tmp_path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(ODD["png"])
    assert images.inspect(images.read(path)).format == "PNG"
    assert images.decode(images.read(path)).shape == (120, 160, 3)


@pytest.mark.parametrize("data", [b"hello, this is text", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff", b"\x00" * 100])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        images.decode(data)


def test_more_than_100_megapixels_are_refused_from_the_header_alone() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    with pytest.raises(ImageError, match="100 megapixels"):
        images.inspect(bomb)
    with pytest.raises(ImageError, match="100 megapixels"):
        images.decode(bomb)


def test_a_picture_just_below_100_megapixels_is_read_without_a_warning_of_pillows() -> None:
    data = encoded(Image.new("1", (9_500, 10_000)), "PNG")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert images.inspect(data).width == 9_500
    assert told == []


def test_reading_says_what_a_path_is_instead_of_a_file(tmp_path) -> None:
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, words in [("gone.jpg", "no such file"), (".", "folder"), ("empty.jpg", "empty"), ("pipe.jpg", "pipe")]:
        with pytest.raises(ImageError, match=words):
            images.read(tmp_path / path)


def test_floating_point_pixels_are_refused_rather_than_guessed() -> None:
    data = encoded(Image.fromarray(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)), "TIFF")
    with pytest.raises(ImageError, match="floating-point"):
        images.decode(data)
