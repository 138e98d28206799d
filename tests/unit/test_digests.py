"""By what a picture is known again."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.core.digests import SHORT, of_bytes, of_picture, short, trained_on
from headstart.core.errors import ImageError


def test_the_digest_is_that_of_coreutils() -> None:
    assert of_bytes(b"abc") == "cf4ab791c62b8d2b2109c90275287816"  # printf abc | b2sum -l 128


def test_a_file_is_known_by_its_bytes_however_they_are_handed_over(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_picture(tmp_path / "a.jpg")
    assert of_picture(path) == of_picture(str(path)) == of_picture(path.read_bytes()) == of_bytes(path.read_bytes())
    (tmp_path / "other name.png").write_bytes(path.read_bytes())
    assert of_picture(tmp_path / "other name.png") == of_picture(path)
    (tmp_path / "a.jpg").write_bytes(path.read_bytes() + b"\0")
    assert of_picture(path) != of_picture(tmp_path / "other name.png")


def test_an_array_is_known_by_its_pixels_and_its_shape() -> None:
    pixels = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    assert of_picture(pixels) == of_picture(pixels[:, ::-1][:, ::-1]) == of_picture(np.asfortranarray(pixels))
    assert len({of_picture(pixels), of_picture(pixels.reshape(6, 2, 3)), of_picture(pixels + 1)}) == 3


def test_a_pil_image_is_known_by_its_pixels() -> None:
    pixels = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert of_picture(Image.fromarray(pixels)) == of_picture(Image.open(file))
    assert of_picture(Image.fromarray(pixels)) != of_picture(Image.fromarray(pixels + 1))


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_cannot_be_read_has_no_digest(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError):
        of_picture(tmp_path / "a.jpg")


def test_a_model_knows_its_training_pictures_by_the_first_half_of_their_digests() -> None:
    digest = of_bytes(b"abc")
    assert short(digest) == "cf4ab791c62b8d2b"
    assert len(digest) == 2 * SHORT
    assert short("") == "", "a picture of unknown digest stays one"
    assert short(digest) in trained_on({"data": {"training_digests": ["cf4ab791c62b8d2b"]}})


@pytest.mark.parametrize("description", [{}, {"data": {}}, {"data": {"training_digests": []}}])
def test_a_model_that_does_not_say_knows_none(description: dict) -> None:
    assert trained_on(description) == frozenset()
