"""Damaged pictures of every kind: the decoder says what is wrong with one sentence, or decodes, and nothing else."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from crafted_pictures import crafted_pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_pictures import encoded, gradient, odd_pictures
from PIL import Image

from headstart.core import images
from headstart.core.errors import ImageError
from headstart.core.preprocessing import Preprocessing

# The huge ones take long and add nothing to headers; a header may still claim any size.
SEEDS = {name: data for name, data in odd_pictures().items() if len(data) < 200_000}
SEEDS |= {name: data for name, (data, _) in crafted_pictures().items() if len(data) < 200_000}


@cache
def real_pictures(folder: Path) -> tuple[bytes, ...]:
    files = [path for kind in ("cat", "dog") for path in sorted((folder / kind).glob("*.jpg"))[:5]]
    return tuple(path.read_bytes() for path in files)


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Return a picture file with bytes changed, removed, doubled or cut off, or spliced with another."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        # Headers decide most, so half of the damage goes there.
        near = min(len(data), 200) if draw(st.booleans()) else len(data)
        start = draw(st.integers(0, max(0, near - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["write", "flip", "remove", "double", "cut", "splice"]))
        if kind == "write":
            data[start : start + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "flip" and data:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "remove":
            del data[start : start + length]
        elif kind == "double":
            data[start:start] = data[start : start + length]
        elif kind == "cut":
            del data[start:]
        else:
            data[start:] = draw(st.sampled_from(seeds))[start:]
    return bytes(data)


def check(data: bytes) -> None:
    preprocessing = Preprocessing((64, 64))
    told = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged EXIF; a user of ours does not see warnings as errors
        try:
            info = images.inspect(data, 2_000_000)
            pixels = images.decode(data, min_size=preprocessing.decode_size())
            seen = preprocessing.load(data)
        except ImageError as error:
            told = str(error)
    if told is not None:
        assert 0 < len(told) < 400
        assert "\n" not in told
        return
    assert info.width * info.height <= 2_000_000
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert seen.shape == (64, 64, 3)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(damaged(tuple(SEEDS.values())))
def test_a_damaged_picture_of_any_kind_is_decoded_or_told(data: bytes) -> None:
    check(data)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_real_photograph_is_decoded_or_told(catdog: Path, data: st.DataObject) -> None:
    check(data.draw(damaged(real_pictures(catdog))))


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(damaged((encoded(Image.fromarray(gradient(24, 32)), "JPEG"), encoded(Image.fromarray(gradient(24, 32)), "PNG"))))
def test_a_damaged_small_picture_is_decoded_or_told(data: bytes) -> None:
    check(data)
