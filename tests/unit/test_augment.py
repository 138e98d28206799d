"""Augmentation: nothing at zero, always at one, the same for the same seed, picture and view."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from odd_pictures import gradient
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from headstart.core.errors import SettingError
from headstart.core.preprocessing import Preprocessing
from headstart.learn import augment, other_names
from headstart.learn.augment import POLICIES, Augmentation, make_augmentation, view_generator

PLAIN = Preprocessing((64, 64))
IMAGE = gradient(150, 200)
STRONGEST = {
    "rotation": 40,
    "shift": 0.3,
    "width_shift": 0.3,
    "height_shift": 0.3,
    "zoom": 0.4,
    "shear": 30,
    "perspective": 0.5,
    "horizontal_flip": 1,
    "vertical_flip": 1,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.3,
    "crop_scale": 0.3,
    "greyscale": 1,
    "blur": 1,
    "trivial": True,
    "erasing": 1,
}


def view(augmentation: Augmentation, number: int) -> np.ndarray:
    return augmentation(IMAGE, PLAIN, view_generator(0, "abc", number))


def test_every_setting_is_covered_here() -> None:
    assert set(STRONGEST) == {field.name for field in fields(Augmentation)}


def test_without_settings_every_view_is_the_plain_picture() -> None:
    for number in range(5):
        assert (view(Augmentation(), number) == PLAIN(IMAGE)).all()


@pytest.mark.parametrize("name", [name for name in STRONGEST if name != "trivial"])
def test_each_setting_changes_every_view_and_keeps_size_and_type(name: str) -> None:
    augmentation = Augmentation(**{name: STRONGEST[name]})
    for number in range(8):
        seen = view(augmentation, number)
        assert seen.shape == (64, 64, 3)
        assert seen.dtype == np.uint8
        assert (seen != PLAIN(IMAGE)).any()


def test_trivial_augment_draws_many_different_operations() -> None:
    views = [view(Augmentation(trivial=True), number) for number in range(60)]
    assert len({seen.tobytes() for seen in views}) > 30
    assert any((seen == PLAIN(IMAGE)).all() for seen in views)  # "identity" is one of the fourteen


def test_flips_are_exact() -> None:
    assert (view(Augmentation(horizontal_flip=1), 0) == PLAIN(IMAGE)[:, ::-1]).all()
    assert (view(Augmentation(vertical_flip=1), 0) == PLAIN(IMAGE)[::-1]).all()


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip", "greyscale", "blur", "erasing"])
def test_a_probability_of_a_half_changes_about_half(name: str) -> None:
    changed = sum((view(Augmentation(**{name: 0.5}), number) != PLAIN(IMAGE)).any() for number in range(200))
    assert 75 <= changed <= 125


def test_a_picture_without_colour_is_the_luminance_of_the_plain_one() -> None:
    luminance = PLAIN(IMAGE) @ (0.299, 0.587, 0.114)  # ITU-R BT.601
    assert np.abs(view(Augmentation(greyscale=1), 0) - luminance[..., None]).max() < 1.1


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (16, 48)])
def test_a_blurred_picture_is_smoother_and_as_light(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    blur, plain = Augmentation(blur=1), Preprocessing(size, fit="squash")
    for number in range(20):
        seen = blur(noise, plain, view_generator(0, "abc", number))
        assert seen.shape == noise.shape
        assert seen.std() < 0.8 * noise.std()
        assert abs(seen.mean() - noise.mean()) < 8


def test_a_shift_across_leaves_rows_as_they_are_and_one_down_columns() -> None:
    rows, columns = np.mgrid[:64, :64] * 4
    down, across = (np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8) for ramp in (rows, columns))
    preprocessing = Preprocessing((64, 64), fit="squash")
    for number in range(10):
        for image, still, moving in ((down, "width_shift", "height_shift"), (across, "height_shift", "width_shift")):
            rng = view_generator(0, "abc", number), view_generator(0, "abc", number)
            assert (Augmentation(**{still: 0.3})(image, preprocessing, rng[0]) == image).all()
            assert (Augmentation(**{moving: 0.3})(image, preprocessing, rng[1]) != image).any()


def test_of_a_shift_and_one_in_a_direction_the_larger_counts() -> None:
    for number in range(5):
        assert (
            view(Augmentation(shift=0.1, width_shift=0.3, height_shift=0.3), number)
            == view(Augmentation(shift=0.3), number)
        ).all()
        assert (view(Augmentation(shift=0.3, width_shift=0.1), number) == view(Augmentation(shift=0.3), number)).all()


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_perspective_is_the_homography_of_its_four_corners(size: tuple[int, int]) -> None:
    """Against torchvision's, from the corners that the same generator draws."""
    preprocessing = Preprocessing(size)
    for number in range(12):
        seen = Augmentation(perspective=0.6)(IMAGE, preprocessing, view_generator(0, "abc", number)).astype(int)
        rng = view_generator(0, "abc", number)
        rng.random(2)  # the flips
        inward = rng.uniform(0, 0.3, (4, 2)) * (size[1] - 1, size[0] - 1)
        corners = np.array([[0, 0], [size[1] - 1, 0], [size[1] - 1, size[0] - 1], [0, size[0] - 1]])
        points = corners + inward * [[1, 1], [-1, 1], [-1, -1], [1, -1]]
        pixels = torch.from_numpy(preprocessing(IMAGE)).permute(2, 0, 1)
        start, end = ((middles + 0.5).tolist() for middles in (points, corners))  # torchvision counts from the edge
        tilted = F.perspective(pixels, start, end, interpolation=F.InterpolationMode.BILINEAR)
        expected = tilted.permute(1, 2, 0).numpy().astype(int)
        assert np.abs(seen - expected)[1:-1, 1:-1].max() <= 2  # OpenCV interpolates in steps of 1/32 pixel


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_picture_and_view_give_the_same_pixels(policy: str) -> None:
    augmentation = make_augmentation(policy)
    assert (view(augmentation, 3) == view(augmentation, 3)).all()


def test_other_seeds_pictures_and_views_give_other_pixels() -> None:
    augmentation = make_augmentation("strong")
    seen = {
        augmentation(IMAGE, PLAIN, view_generator(seed, digest, number)).tobytes()
        for seed in (0, 1)
        for digest in ("abc", "abd")
        for number in (1, 2)
    }
    assert len(seen) == 8


def test_a_random_crop_keeps_its_share_of_the_picture_when_it_is_very_wide() -> None:
    wide = gradient(20, 2000)
    seen = Augmentation(crop_scale=0.9)(wide, PLAIN, view_generator(0, "wide", 1))
    assert seen.shape == (64, 64, 3)


def test_equal_settings_are_equal_whatever_numbers_they_are_of() -> None:
    one = Augmentation(rotation=15, trivial=True, horizontal_flip=1)
    other = Augmentation(rotation=np.float32(15), trivial=np.bool_(True), horizontal_flip=np.int64(1))  # type: ignore
    assert (one, one.identity) == (other, other.identity)


def test_a_setting_that_comes_to_be_added_leaves_the_cached_views_of_others() -> None:
    @dataclass(frozen=True)
    class Later(Augmentation):
        fog: float = 0.0

    assert Later(rotation=15).identity == Augmentation(rotation=15).identity
    assert Later(rotation=15, fog=0.5).identity != Augmentation(rotation=15).identity != Augmentation().identity


def test_every_name_of_another_library_leads_to_a_setting_or_tells_what_to_do() -> None:
    known = {field.name for field in fields(Augmentation)}
    assert {told for told in other_names.AUGMENTATION.values() if " " not in told} <= known
    for name, told in other_names.AUGMENTATION.items():
        with pytest.raises(SettingError, match=f"^augmentation setting {name} ") as caught:
            make_augmentation({name: 0.1})
        assert told in str(caught.value)
        with pytest.raises(SettingError, match=f"^augmentation policy {name} "):
            make_augmentation(name)


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 0.9},
        {"rotation": 45, "shift": 0.2, "zoom": 0.3},
        {"zoom": 0.9, "shear": 80, "rotation": 180, "shift": 0.9},
        {"perspective": 0.8},
        {"perspective": 0.8, "width_shift": 0.9},
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_what_comes_in_from_outside_continues_the_border_however_far(settings, size) -> None:
    white = np.full((150, 200, 3), 255, np.uint8)
    for number in range(60):
        seen = Augmentation(**settings)(white, Preprocessing(size), view_generator(0, "abc", number))
        assert (seen == 255).all()


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_pictures_move_as_torchvision_moves_them(size, monkeypatch) -> None:
    """Against its own affine on a picture that is first continued by three sides all around."""
    augmentation, preprocessing = Augmentation(rotation=40, shift=0.3, zoom=0.4, shear=30), Preprocessing(size)
    for number in range(12):
        seen = augmentation(IMAGE, preprocessing, view_generator(0, "abc", number)).astype(int)
        rng = view_generator(0, "abc", number)
        rng.random(2)  # the flips
        angle, shear = rng.uniform(-40, 40), rng.uniform(-30, 30)
        down, across = rng.uniform(-0.3, 0.3, 2)
        pixels = torch.from_numpy(preprocessing(IMAGE)).permute(2, 0, 1)
        moved = F.affine(
            F.pad(pixels, [3 * max(size)], padding_mode="edge"),
            angle=angle,
            translate=[across * size[1], down * size[0]],
            scale=1 + rng.uniform(-0.4, 0.4),
            shear=[shear, 0.0],
            interpolation=F.InterpolationMode.BILINEAR,
        )
        expected = F.center_crop(moved, list(size)).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(seen - expected).max() <= 1


def wide_picture(height: int = 100, width: int = 300) -> np.ndarray:
    """Red in its left half, blue in its right, and no grey."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0], image[:, width // 2 :, 2] = 255, 255
    return image


def is_grey(view: np.ndarray) -> np.ndarray:
    return (view == 128).all(-1)


def test_random_crops_of_padded_pictures_are_crops_of_the_letterboxed_picture() -> None:
    pad, crops = Preprocessing((64, 64), fit="pad"), Augmentation(crop_scale=0.25)
    views = [crops(wide_picture(), pad, view_generator(0, "wide", number)) for number in range(200)]
    shares = np.array([is_grey(seen).mean() for seen in views])
    assert is_grey(pad(wide_picture())).mean() == pytest.approx(2 / 3, abs=0.02)
    assert 0.5 < shares.mean() < 0.72  # as much grey as validation sees, on the whole
    assert shares.max() <= 1 - 0.5 / 3 + 0.03  # and never grey alone
    whole = Augmentation(crop_scale=0.9999)(wide_picture(), pad, view_generator(0, "wide", 1))
    assert np.abs(whole.astype(int) - pad(wide_picture())).mean() < 12  # all of it is the letterboxed picture


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (1, 1), (3, 400)])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_random_crops_of_odd_shapes_have_the_size_and_show_the_picture(size, fit) -> None:
    image = np.full((*size, 3), 255, np.uint8)
    for number in range(30):
        seen = Augmentation(crop_scale=0.08)(image, Preprocessing((64, 48), fit=fit), view_generator(0, "x", number))
        assert seen.shape == (64, 48, 3)
        assert (seen == 255).any()
        assert fit == "pad" or (seen == 255).all()


def test_random_crops_of_squashed_pictures_are_squashed_like_the_plain_view() -> None:
    """A circle drawn on a picture of 3:1 is three times as tall as wide to the network, in every view."""
    rows, columns = np.mgrid[:200, :600]
    image = np.where(((rows - 100) ** 2 + (columns - 300) ** 2 < 60**2)[..., None], 255, 0).astype(np.uint8)
    image = np.repeat(image, 3, axis=2)
    stretched = []
    for number in range(60):
        seen = Augmentation(crop_scale=0.7)(
            image, Preprocessing((96, 96), fit="squash"), view_generator(0, "c", number)
        )
        lit = np.argwhere(seen[..., 0] > 127)
        (top, left), (bottom, right) = lit.min(0), lit.max(0)
        stretched.append((bottom - top + 1) / (right - left + 1))
    assert 3 * 0.7 < np.median(stretched) < 3 * 1.4


@pytest.mark.parametrize(("size", "expected"), [((20, 2000), (20, 27)), ((2000, 20), (27, 20))])
def test_where_no_crop_fits_it_is_that_of_torchvision(size, expected) -> None:
    theirs = RandomResizedCrop(8, scale=(1.0, 1.0)).make_params([torch.zeros(3, *size)])
    top, left, height, width = augment._draw_window(size, (0, 0, *size), 1.0, 1.0, view_generator(0, "w", 1))
    assert (height, width) == expected == (theirs["height"], theirs["width"])
    assert (top, left) == (theirs["top"], theirs["left"])


def test_policies_and_single_settings_combine() -> None:
    assert make_augmentation({"policy": "flip", "rotation": 15}) == Augmentation(horizontal_flip=0.5, rotation=15)
    assert make_augmentation(None) == Augmentation()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("heavy", "augmentation policy"),
        ({"rotate": 3}, "rotation"),
        ({"hue": 0.9}, "0 to 0.5"),
        ({"zoom": -1}, "zoom"),
        ({"horizontal_flip": True}, "horizontal_flip is True: give a probability such as 0.5"),
        ({"erasing": 2}, "erasing is 2: give a probability such as 0.5"),
        ({"rotation": True}, "rotation is True: give a number from 0 to 180"),
        ({"trivial": 0.3}, "trivial is 0.3: give true or false"),
        ({"rotation_range": 15}, "rotation_range is called rotation here"),
        ({"width_shift_range": 0.1}, "width_shift_range is called width_shift here: write width_shift"),
        ({"fliplr": 0.5}, "fliplr is called horizontal_flip here"),
        ({"flipud": 0.5}, "flipud is called vertical_flip here"),
        ({"hsv_h": 0.015}, "hsv_h is called hue here"),
        ({"channel_shift_range": 20}, "channel_shift_range has no counterpart here; hue and saturation"),
        ({"fill_mode": "nearest"}, "fill_mode is not to be chosen: .* continues the border. Leave it out"),
        ({"Color-Jitter": 0.4}, "Color-Jitter is several settings here: write those of brightness, contrast"),
        ({"rand_augment": True}, "rand_augment is trivial=true here"),
        ({"fog": 0.5}, "unknown augmentation setting 'fog': `headstart fit --help` lists all"),
        ({"zoom": [0.8, 1.2]}, "zoom is .0.8, 1.2.: give a number from 0 to 0.9; 0.2 draws a factor from 0.8 to 1.2"),
        ({"crop_scale": (0.08, 1.0)}, "0.25 draws crops of a quarter of the area to all of it"),
        ({"rotation": "much"}, "rotation is 'much': give a number from 0 to 180"),
        ({"trivial": "yes"}, "trivial is 'yes': give true or false"),
        ({"policy": ["flip"]}, "unknown augmentation policy"),
        ("randaugment", "policy randaugment is trivial=true here, .* or the policy strong"),
        ("rotation", "rotation is a setting, and no policy: write rotation=NUMBER"),
        ("trivial", "trivial is a setting, and no policy: write trivial=true"),
        ("heavy", "choose one of flip, light, none, standard, strong"),
    ],
)
def test_impossible_settings_are_refused_with_what_was_meant(setting, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make_augmentation(setting)
