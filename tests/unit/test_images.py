"""Decoding: every odd picture becomes RGB, everything broken becomes one clear sentence."""

import os
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from crafted_pictures import crafted_pictures, exif, harmless_pictures
from odd_pictures import encoded, gradient, odd_pictures
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngInfo

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


@pytest.mark.parametrize("name", crafted_pictures())
def test_a_file_made_to_keep_the_decoder_busy_is_refused_before_any_decoder_sees_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, word = crafted_pictures()[name]
    assert len(data) < 2_000_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("a decoder was started"))
    for ask in (images.inspect, images.decode):
        with pytest.raises(ImageError, match=word):
            ask(data)


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
@pytest.mark.parametrize("name", harmless_pictures())
def test_a_file_of_many_parts_as_programs_write_them_is_read(name: str) -> None:
    data = harmless_pictures()[name]
    image = Image.open(BytesIO(data))
    if image.mode == "I":  # 16 bits, of which the high ones are kept
        expected = np.repeat(np.asarray(image)[..., None] >> 8, 3, axis=2)
    else:
        expected = np.asarray(image.convert("RGB"))
    assert expected.any()
    np.testing.assert_array_equal(images.decode(data), expected)


def test_exif_of_many_fractions_is_refused_wherever_pillow_would_find_it() -> None:
    found = exif(5, 2_000, 8, 0x011A)
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(found)}\n{found.hex()}", zip=True)
    picture = Image.fromarray(gradient())
    held = [encoded(picture, form, exif=found) for form in ("WEBP", "AVIF")] + [encoded(picture, "PNG", pnginfo=text)]
    for data in held:
        with pytest.raises(ImageError, match="1,000 values"):
            images.decode(data)


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 13, 14, 20, 40])
def test_a_header_that_is_cut_off_anywhere_is_told_in_the_usual_way(cut: int) -> None:
    for data in (*ODD.values(), *(crafted for crafted, _ in crafted_pictures().values())):
        if len(data) > 50:
            with pytest.raises(ImageError):
                images.decode(data[:cut])


@pytest.mark.parametrize("largest", [1, 100, 254, 256, 1023, 4095])
@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_a_binary_ppm_of_any_depth_has_the_pixels_of_pillows_slow_decoder(magic: bytes, largest: int) -> None:
    values = np.random.default_rng(0).integers(0, largest + 1, (5, 7, 3 if magic == b"P6" else 1))
    values[0, 0] = largest
    data = magic + b" 7 5 %d\n" % largest + values.astype(">u2" if largest > 255 else np.uint8).tobytes()
    slow = np.asarray(Image.open(BytesIO(data)))
    expected = slow if slow.ndim == 3 else np.repeat(slow[..., None] >> (8 if largest > 255 else 0), 3, axis=2)
    np.testing.assert_array_equal(images.decode(data), expected)
    with pytest.raises(ImageError, match="cut off"):
        images.decode(data[:-1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_a_picture_decoded_in_strips_is_the_picture_decoded_at_once(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mode.startswith("I"):
        whole = Image.fromarray(np.arange(35 * 40, dtype=np.uint16).reshape(35, 40) * 40).convert(mode)
    else:
        grey = Image.fromarray(gradient(35, 40)).convert("L")
        whole = Image.merge("RGBA", (*Image.fromarray(gradient(35, 40)).split(), grey))
        whole = whole.convert("RGB").convert(mode) if mode in ("1", "CMYK") else whole.convert(mode)
    data = encoded(whole, "TIFF" if mode in ("CMYK", "I") else "PNG") if mode != "PA" else palette_with_transparency()
    at_once = images.decode(data)
    strips = []
    genuine = images._strip_to_rgb
    monkeypatch.setattr(images, "_STRIP_PIXELS", 130)
    monkeypatch.setattr(images, "_strip_to_rgb", lambda strip: strips.append(strip.size) or genuine(strip))
    np.testing.assert_array_equal(images.decode(data), at_once)
    assert strips == [(40, 3)] * 11 + [(40, 2)]


def palette_with_transparency() -> bytes:
    picture = Image.fromarray(gradient(35, 40)).convert("P")
    return encoded(picture, "PNG", transparency=bytes(range(0, 256)))


def test_the_filters_of_warnings_do_not_grow_with_the_pictures() -> None:
    data = encoded(Image.fromarray(gradient(24, 32)), "PNG")
    images.inspect(data)
    before = list(warnings.filters)
    for _ in range(20):
        images.inspect(data)
    assert warnings.filters == before


def test_what_a_decoder_must_hold_as_a_whole_is_told_from_the_header() -> None:
    photo = Image.fromarray(gradient())
    assert not images.inspect(encoded(photo, "JPEG")).whole
    assert images.inspect(encoded(photo, "JPEG", progressive=True)).whole
    assert images.inspect(encoded(photo.convert("CMYK"), "JPEG")).whole
    assert images.inspect(encoded(photo, "PNG")).whole
