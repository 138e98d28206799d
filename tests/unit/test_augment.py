"""Augmentation: nothing at zero, always at one, the same for the same seed, picture and view."""

from dataclasses import fields

import numpy as np
import pytest
from odd_pictures import gradient

from headstart.core.errors import SettingError
from headstart.core.preprocessing import Preprocessing
from headstart.learn.augment import POLICIES, Augmentation, make_augmentation, view_generator

PLAIN = Preprocessing((64, 64))
IMAGE = gradient(150, 200)
STRONGEST = {
    "rotation": 40,
    "shift": 0.3,
    "zoom": 0.4,
    "shear": 30,
    "horizontal_flip": 1,
    "vertical_flip": 1,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.3,
    "crop_scale": 0.3,
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


def test_a_flip_probability_of_a_half_flips_about_half() -> None:
    flipped = sum((view(Augmentation(horizontal_flip=0.5), number) != PLAIN(IMAGE)).any() for number in range(200))
    assert 75 <= flipped <= 125


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


def test_policies_and_single_settings_combine() -> None:
    assert make_augmentation({"policy": "flip", "rotation": 15}) == Augmentation(horizontal_flip=0.5, rotation=15)
    assert make_augmentation(None) == Augmentation()


@pytest.mark.parametrize(
    ("setting", "words"),
    [("heavy", "augmentation policy"), ({"rotate": 3}, "rotation"), ({"hue": 0.9}, "0 to 0.5"), ({"zoom": -1}, "zoom")],
)
def test_impossible_settings_are_refused_with_what_was_meant(setting, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make_augmentation(setting)
