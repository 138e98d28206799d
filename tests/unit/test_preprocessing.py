"""The one preprocessing: sizes, what is seen of a picture, and agreement with independent resizers."""

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_pictures import encoded, gradient, odd_pictures
from PIL import Image

from headstart.core.errors import SettingError
from headstart.core.preprocessing import Preprocessing, shrink

ODD = odd_pictures()


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["crop", "pad", "squash"]),
    st.sampled_from([(16, 16), (48, 32)]),
)
def test_any_picture_gets_the_wanted_size(height: int, width: int, fit: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    seen = Preprocessing(size, fit).__call__(image)
    assert seen.shape == (*size, 3)
    assert seen.dtype == np.uint8
    assert seen.flags.c_contiguous


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0.1, 1.0))
def test_the_window_stays_inside_and_has_the_right_shape(height: int, width: int, fraction: float) -> None:
    preprocessing = Preprocessing((32, 64), crop_fraction=fraction)
    x0, y0, x1, y1 = preprocessing.window(width, height)
    assert -1e-6 <= x0 < x1 <= width + 1e-6
    assert -1e-6 <= y0 < y1 <= height + 1e-6
    assert (x1 - x0) / (y1 - y0) == pytest.approx(2)
    assert 0 < preprocessing.share_seen(width, height) <= 1 + 1e-9


def test_a_very_wide_picture_loses_most_of_itself_to_the_crop_and_nothing_to_padding() -> None:
    assert Preprocessing().share_seen(1000, 100) == pytest.approx(0.1 * 0.875**2)
    assert Preprocessing(fit="pad").share_seen(1000, 100) == 1
    assert Preprocessing(fit="squash").share_seen(1000, 100) == 1


def test_cropping_agrees_with_the_usual_resize_and_centre_crop() -> None:
    image = gradient(512, 768)
    small = Image.fromarray(image).resize((384, 256), Image.Resampling.BICUBIC)
    expected = np.asarray(small.crop((80, 16, 304, 240)))
    # The blue edge is where resamplers differ; everywhere else they agree within a grey level or two.
    assert np.abs(Preprocessing()(image).astype(int) - expected).mean() < 2


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = Preprocessing((64, 64), crop_fraction=1.0)(stripes)
    assert seen.std() < 3
    assert seen.mean() == pytest.approx(127.5, abs=2)


def test_padding_keeps_the_whole_picture_and_its_shape() -> None:
    seen = Preprocessing((100, 100), "pad", pad_value=7)(np.full((50, 200, 3), 200, np.uint8))
    assert (seen[:37] == 7).all()
    assert (seen[-37:] == 7).all()
    assert (seen[38:62] == 200).all()


def test_a_jpeg_gives_nearly_the_same_whether_decoded_small_or_whole() -> None:
    data = encoded(Image.fromarray(gradient(900, 1300)), "JPEG", quality=95)
    preprocessing = Preprocessing((224, 224))
    whole = preprocessing(np.asarray(Image.open(BytesIO(data))))
    assert np.abs(preprocessing.load(data).astype(int) - whole).mean() < 2


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_every_odd_picture_can_be_seen(name: str, fit: str) -> None:
    assert Preprocessing((32, 32), fit).load(ODD[name]).shape == (32, 32, 3)


def test_json_and_back_is_the_same() -> None:
    preprocessing = Preprocessing((150, 100), "pad", 1.0, 0)
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": (8, 224)}, "16 to 4096"),
        ({"image_size": (224, 224, 3)}, "one or two"),
        ({"fit": "stretch"}, "crop, pad, squash"),
        ({"crop_fraction": 0}, "above 0"),
        ({"pad_value": 300}, "0 to 255"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Preprocessing(**settings)


def test_unknown_preprocessing_in_a_file_is_refused() -> None:
    with pytest.raises(SettingError, match="not of this version"):
        Preprocessing.from_json({"image_size": [224, 224], "sharpen": 1})


@pytest.mark.parametrize(
    ("height", "width", "smaller"), [(400, 600, (85, 128)), (3000, 1, (128, 1)), (200, 128, (128, 82))]
)
def test_shrinking_to_a_longest_side_keeps_the_shape_and_averages(
    height: int, width: int, smaller: tuple[int, int]
) -> None:
    image = gradient(height, width)
    small = shrink(image, 128)
    assert small.shape == (*smaller, 3)
    expected = np.asarray(Image.fromarray(image).resize(smaller[::-1], Image.Resampling.BOX), int)
    assert np.abs(small.astype(int) - expected).mean() < 1


def test_shrinking_to_a_longest_side_never_enlarges() -> None:
    image = gradient(128, 30)
    assert np.array_equal(shrink(image, 128), image)
    assert np.array_equal(shrink(image, 1000), image)
