"""Seeded augmentation: the same seed, picture and view always give the same pixels, whatever the workers.

torchvision's `transforms.v2.functional` does the pixel work. Its own random transforms draw from torch's global
generator, which threads share; here every view draws its parameters from a generator of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as F

from headstart.core.errors import SettingError, unknown_name
from headstart.core.preprocessing import Preprocessing, resize
from headstart.learn import other_names
from headstart.learn.given import DEFAULT_AUGMENTATION
from headstart.learn.kinds import is_number
from headstart.learn.other_names import called_here, unknown_setting

_GREY = 128
# Part of every view's key in the cache: raise it when the same settings come to give other pixels.
_VERSION = 2
_LIMITS = {
    "rotation": 180.0,
    "shear": 80.0,
    "shift": 0.9,
    "width_shift": 0.9,
    "height_shift": 0.9,
    "zoom": 0.9,
    "perspective": 0.8,
    "hue": 0.5,
}
_CHANCES = ("horizontal_flip", "vertical_flip", "greyscale", "blur", "erasing")
_FACTOR = "; 0.2 draws a factor from 0.8 to 1.2"
# Where other libraries take a pair.
_EXAMPLES = {
    **dict.fromkeys(("zoom", "brightness", "contrast", "saturation"), _FACTOR),
    "crop_scale": "; 0.25 draws crops of a quarter of the area to all of it",
}


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture; every default is "nothing".

    Attributes:
        rotation: Largest angle in degrees, either way.
        shift: Largest shift as a share of the side, either way, in both directions.
        width_shift, height_shift: The same in one direction; the larger of it and `shift` counts.
        zoom: Largest change of scale as a share: 0.1 draws a factor from 0.9 to 1.1.
        shear: Largest shear angle in degrees, either way.
        perspective: Looks from an angle: each corner is taken from up to half of this share of the side further in.
        horizontal_flip: Probability of mirroring left and right.
        vertical_flip: Probability of mirroring up and down.
        brightness, contrast, saturation: Largest change as a share: 0.2 draws a factor from 0.8 to 1.2.
        hue: Largest turn of the hue, as a share of the full circle, at most 0.5.
        crop_scale: Smallest share of the picture's area of a random resized crop (Szegedy et al. 2015,
            arXiv:1409.4842, with 3/4 to 4/3 of the network's proportions, as in torchvision); 1 keeps the plain crop.
            Where pictures are padded or squashed, it is a crop of what that gives.
        greyscale: Probability of taking the colour away.
        blur: Probability of a Gaussian blur, of a standard deviation from 0.5 to 2 pixels that the network sees.
        trivial: Whether one random operation of TrivialAugment (Müller and Hutter 2021, arXiv:2103.10158) is done.
        erasing: Probability of greying out a rectangle of 2 % to 33 % (Zhong et al. 2017, arXiv:1708.04896).
    """

    rotation: float = 0.0
    shift: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    crop_scale: float = 1.0
    greyscale: float = 0.0
    blur: float = 0.0
    trivial: bool = False
    erasing: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.trivial, (bool, np.bool_)):
            raise SettingError(f"augmentation trivial is {self.trivial!r}: give true or false.")
        object.__setattr__(self, "trivial", bool(self.trivial))
        for name in (field.name for field in fields(self) if field.name != "trivial"):
            value, limit = getattr(self, name), _LIMITS.get(name, 1.0)
            if not is_number(value) or not 0 <= value <= limit:
                expected = f"a number from 0 to {limit:g}{_EXAMPLES.get(name, '')}"
                expected = "a probability such as 0.5" if name in _CHANCES else expected
                raise SettingError(f"augmentation {name} is {value!r}: give {expected}.")
            object.__setattr__(self, name, float(value))  # also of whole numbers: equal settings have one identity
        if self.crop_scale == 0:
            raise SettingError("augmentation crop_scale is 0: give a share of the area above 0, such as 0.25.")

    @property
    def identity(self) -> str:
        """A short text that is equal exactly for equal settings; a setting that comes to be added changes none."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        chosen = {name: value for name, (value, default) in values.items() if value != default}
        return hashlib.sha256(json.dumps([_VERSION, chosen], sort_keys=True).encode()).hexdigest()[:16]

    def decode_scale(self) -> float:
        """How much larger than usual a picture must be decoded so that a small crop of it still has detail."""
        return min(3.0, math.sqrt(1 / self.crop_scale) / (1.0 - min(self.zoom, 0.5)))

    def __call__(self, image: np.ndarray, preprocessing: Preprocessing, rng: np.random.Generator) -> np.ndarray:
        """Return an augmented view of a decoded picture.

        Args:
            image: uint8 RGB `(h, w, 3)`.
            preprocessing: Gives the size, the fit mode and, without a random crop, the crop.
            rng: Where all parameters are drawn from; see `view_generator`.

        Returns:
            uint8 `(*preprocessing.image_size, 3)`.
        """
        if self.crop_scale < 1:
            pixels = _random_resized_crop(image, preprocessing, self.crop_scale, rng)
        else:
            pixels = preprocessing(image)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        if rng.random() < self.horizontal_flip:
            tensor = F.horizontal_flip(tensor)
        if rng.random() < self.vertical_flip:
            tensor = F.vertical_flip(tensor)
        if any((self.rotation, self.shift, self.width_shift, self.height_shift, self.zoom, self.shear)):
            tensor = self._affine(tensor, rng)
        if self.perspective:
            tensor = _tilted(tensor, self.perspective, rng)
        tensor = self._colour(tensor, rng)
        for chance, change in ((self.greyscale, _grey), (self.blur, _blurred)):
            if chance and rng.random() < chance:
                tensor = change(tensor, rng)
        if self.trivial:
            tensor = _trivial(tensor, rng)
        if rng.random() < self.erasing:
            tensor = _erase(tensor, rng)
        return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())

    def _affine(self, tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        height, width = tensor.shape[-2:]
        angle, shear = rng.uniform(-self.rotation, self.rotation), rng.uniform(-self.shear, self.shear)
        most = np.maximum(self.shift, (self.height_shift, self.width_shift))
        down, across = rng.uniform(-most, most)
        scale = 1 + rng.uniform(-self.zoom, self.zoom)
        turn, slant = math.radians(angle), math.tan(math.radians(shear))
        forward = scale * np.array(
            [
                [math.cos(turn), -math.cos(turn) * slant - math.sin(turn)],
                [math.sin(turn), -math.sin(turn) * slant + math.cos(turn)],
            ]
        )
        back = np.linalg.inv(forward)  # from where in the picture each pixel comes, both from the middle
        start = -back @ (across * width, down * height)
        stretch = np.array([[1.0, height / width], [width / height, 1.0]])  # torch's unit is half a side
        theta = np.column_stack([back * stretch, start * 2 / (width, height)])
        grid = functional.affine_grid(torch.from_numpy(theta).float()[None], [1, 3, height, width], align_corners=False)
        # What comes in from outside continues the border, however far, as Keras's fill_mode="nearest" does.
        moved = functional.grid_sample(tensor[None].float(), grid, padding_mode="border", align_corners=False)
        return moved[0].round().to(torch.uint8)

    def _colour(self, tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        for change, adjust in (
            (self.brightness, F.adjust_brightness),
            (self.contrast, F.adjust_contrast),
            (self.saturation, F.adjust_saturation),
        ):
            if change:
                tensor = adjust(tensor, 1 + rng.uniform(-change, change))
        return F.adjust_hue(tensor, rng.uniform(-self.hue, self.hue)) if self.hue else tensor


POLICIES: dict[str, Augmentation] = {
    "none": Augmentation(),
    "flip": Augmentation(horizontal_flip=0.5),
    "light": Augmentation(horizontal_flip=0.5, rotation=10, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1),
    "standard": Augmentation(horizontal_flip=0.5, crop_scale=0.25),
    "strong": Augmentation(horizontal_flip=0.5, crop_scale=0.25, trivial=True, erasing=0.25),
}


def make_augmentation(setting: str | dict[str, Any] | Augmentation | None) -> Augmentation:
    """Return the augmentation named by a policy, by single settings, or by both (`{"policy": "flip", "rotation": 15}`).

    Raises:
        SettingError: The policy or a setting does not exist or has an impossible value.
    """
    if isinstance(setting, Augmentation):
        return setting
    setting = DEFAULT_AUGMENTATION if setting is None or setting == {} else setting
    settings = {"policy": setting} if isinstance(setting, str) else dict(setting)
    policy = settings.pop("policy", "none")
    known = [field.name for field in fields(Augmentation)]
    for name in settings:
        if name not in known:
            raise unknown_setting("augmentation setting", name, known, other_names.AUGMENTATION)
    if policy not in tuple(POLICIES):
        raise _unknown_policy(policy, known)
    return replace(POLICIES[policy], **settings)


def _unknown_policy(policy: Any, settings: list[str]) -> SettingError:
    """Return the error for a policy that does not exist; often it is a setting, ours or that of another library."""
    if policy in settings:
        value = "true" if policy == "trivial" else "NUMBER"
        return SettingError(f"augmentation {policy} is a setting, and no policy: write {policy}={value}.")
    if called_here(policy, other_names.AUGMENTATION):
        return unknown_setting("augmentation policy", policy, settings, other_names.AUGMENTATION)
    return unknown_name("augmentation policy", policy, POLICIES, "`headstart fit --help`")


def view_generator(seed: int, digest: str, view: int) -> np.random.Generator:
    """Return the generator of one view of one picture, from the seed, the digest of its bytes and the view's number."""
    key = hashlib.blake2b(f"{seed}:{digest}:{view}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(key, "little"))


def _random_resized_crop(
    image: np.ndarray, preprocessing: Preprocessing, smallest: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a random crop, uint8 `(*image_size, 3)`, of the picture as the fit mode shows it.

    That is the picture itself, or all of it on a ground with the network's proportions, letterboxed or squashed: else
    training would see other pictures than validation.
    """
    (rows, columns), (height, width) = preprocessing.image_size, image.shape[:2]
    ground, place = (height, width), (0, 0, height, width)
    if preprocessing.fit != "crop":
        pixel = max(width / columns, height / rows)
        ground = (round(rows * pixel), round(columns * pixel))
        place = (0, 0, *ground)
    if preprocessing.fit == "pad":
        place = ((ground[0] - height) // 2, (ground[1] - width) // 2, height, width)
    window = _draw_window(ground, place, columns / rows, smallest, rng)
    seen = np.full((rows, columns, 3), preprocessing.pad_value, np.uint8)
    y0, y1, top, bottom = _shared(window[0], window[2], place[0], place[2], height, rows)
    x0, x1, left, right = _shared(window[1], window[3], place[1], place[3], width, columns)
    seen[top:bottom, left:right] = resize(image[y0:y1, x0:x1], (bottom - top, right - left))
    return seen


Box = tuple[int, int, int, int]  # top, left, height, width


def _draw_window(
    ground: tuple[int, int], place: Box, proportion: float, smallest: float, rng: np.random.Generator
) -> Box:
    """Return a window of the ground as torchvision's RandomResizedCrop draws it, not filled by the letterbox alone.

    Args:
        ground: Its height and width.
        place: Where the picture is on it.
        proportion: Of the network's input, width by height; windows are from 3/4 to 4/3 of that.
        smallest: Share of the ground's area.
        rng: Where it is drawn from.
    """
    height, width = ground
    narrowest, widest = 3 / 4 * proportion, 4 / 3 * proportion
    for _ in range(10):
        area = height * width * rng.uniform(smallest, 1.0)
        ratio = np.exp(rng.uniform(np.log(narrowest), np.log(widest)))
        across, down = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < across <= width and 0 < down <= height:
            top, left = int(rng.integers(height - down + 1)), int(rng.integers(width - across + 1))
            both = max(0, min(top + down, place[0] + place[2]) - max(top, place[0])) * max(
                0, min(left + across, place[1] + place[3]) - max(left, place[1])
            )
            # At least half as much of the picture as in the whole: 1 where there is no letterbox.
            if both / (down * across) >= 0.5 * place[2] * place[3] / (height * width):
                return top, left, down, across
    # Very wide or tall: the largest window in the middle.
    across = min(width, max(1, round(height * widest)))
    down = min(height, max(1, round(width / narrowest)))
    return (height - down) // 2, (width - across) // 2, down, across


def _shared(start: int, length: int, place: int, extent: int, pixels: int, size: int) -> tuple[int, int, int, int]:
    """Return, along one axis, which pixels of the picture are in the window, and where they come to lie in the result.

    Args:
        start: Of the window on the ground.
        length: Of the window.
        place: Of the picture on the ground.
        extent: Of the picture there.
        pixels: Of the picture.
        size: Of the result.
    """
    low, high = max(start, place), min(start + length, place + extent)
    first, last = (round((end - place) * pixels / extent) for end in (low, high))
    begin, stop = (round((end - start) * size / length) for end in (low, high))
    first, begin = min(first, pixels - 1), min(begin, size - 1)
    return first, max(last, first + 1), begin, max(stop, begin + 1)


def _tilted(tensor: torch.Tensor, most: float, rng: np.random.Generator) -> torch.Tensor:
    """Nothing comes in from outside: the four corners of the view are points within the picture."""
    height, width = tensor.shape[-2:]
    corners, last = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), (width - 1, height - 1)
    points = corners + (1 - 2 * corners) * rng.uniform(0, most / 2, (4, 2))
    forward = cv2.getPerspectiveTransform((points * last).astype(np.float32), (corners * last).astype(np.float32))
    pixels = np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())
    # Not torchvision's, which darkens the edges of what it enlarges.
    tilted = cv2.warpPerspective(pixels, forward, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(tilted).permute(2, 0, 1)


def _grey(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    grey: torch.Tensor = F.rgb_to_grayscale(tensor, num_output_channels=3)
    return grey


def _blurred(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    sigma = rng.uniform(0.5, 2.0)
    blurred: torch.Tensor = F.gaussian_blur(tensor, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)
    return blurred


def _erase(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    height, width = tensor.shape[-2:]
    area, ratio = height * width * rng.uniform(0.02, 0.33), np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
    down = max(1, min(height, round((area * ratio) ** 0.5)))
    across = max(1, min(width, round((area / ratio) ** 0.5)))
    top, left = int(rng.integers(height - down + 1)), int(rng.integers(width - across + 1))
    grey = torch.full((3, 1, 1), _GREY, dtype=torch.uint8)
    erased: torch.Tensor = F.erase(tensor, top, left, down, across, grey)
    return erased


def _trivial(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """One operation, uniformly chosen, at a uniformly chosen strength (the paper's "wide" ranges)."""
    strength, sign = rng.uniform(), rng.choice([-1.0, 1.0])
    factor = 1 + sign * 0.99 * strength
    operations: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda x: x,
        lambda x: _shifted(x, shear=[np.degrees(np.arctan(sign * 0.99 * strength)), 0.0]),
        lambda x: _shifted(x, shear=[0.0, np.degrees(np.arctan(sign * 0.99 * strength))]),
        lambda x: _shifted(x, translate=[sign * strength * 32 * x.shape[-1] / 224, 0.0]),
        lambda x: _shifted(x, translate=[0.0, sign * strength * 32 * x.shape[-2] / 224]),
        lambda x: _shifted(x, angle=sign * strength * 135),
        lambda x: F.adjust_brightness(x, factor),
        lambda x: F.adjust_saturation(x, factor),
        lambda x: F.adjust_contrast(x, factor),
        lambda x: F.adjust_sharpness(x, factor),
        lambda x: F.posterize(x, bits=8 - round(6 * strength)),
        lambda x: F.solarize(x, threshold=255 * (1 - strength)),
        F.autocontrast,
        F.equalize,
    ]
    return operations[rng.integers(len(operations))](tensor)


def _shifted(
    tensor: torch.Tensor, angle: float = 0.0, translate: list[float] | None = None, shear: list[float] | None = None
) -> torch.Tensor:
    moved: torch.Tensor = F.affine(
        tensor,
        angle=angle,
        translate=translate or [0.0, 0.0],
        scale=1.0,
        shear=shear or [0.0, 0.0],
        interpolation=F.InterpolationMode.BILINEAR,
        fill=_GREY,
    )
    return moved
