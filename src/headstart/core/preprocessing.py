"""The one implementation of "any picture -> the uint8 square the network sees".

Training, evaluation, prediction, the server and every export call `Preprocessing`; nothing else in the
project resizes a picture for a network. Normalisation is not here: it is the network's first layer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np

from headstart.core import images
from headstart.core.errors import SettingError

Fit = Literal["crop", "pad", "squash"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture of any size becomes uint8 `(height, width, 3)` RGB.

    Attributes:
        image_size: `(height, width)` in pixels of what the network sees.
        fit: `crop` takes the largest centred window of the right shape (and of it the central
            `crop_fraction`), `pad` letterboxes the whole picture with grey, `squash` ignores the aspect ratio.
        crop_fraction: Share of the window's sides that is kept, in (0, 1]; 0.875 is the ImageNet habit of
            resizing to 256 and cropping 224 (He et al. 2016, arXiv:1512.03385, section 3.4).
        pad_value: Grey level 0-255 of the letterbox.
    """

    image_size: tuple[int, int] = (224, 224)
    fit: Fit = "crop"
    crop_fraction: float = 0.875
    pad_value: int = 128

    def __post_init__(self) -> None:
        given: Any = self.image_size
        size = (given, given) if isinstance(given, int) else tuple(int(side) for side in given)
        if len(size) != 2 or not all(16 <= side <= 4096 for side in size):
            raise SettingError(f"image_size is {self.image_size!r}: give one or two whole numbers from 16 to 4096.")
        object.__setattr__(self, "image_size", size)
        if self.fit not in get_args(Fit):
            raise SettingError(f"fit is {self.fit!r}: choose one of {', '.join(get_args(Fit))}.")
        if not 0 < self.crop_fraction <= 1:
            raise SettingError(f"crop_fraction is {self.crop_fraction!r}: give a number above 0 and at most 1.")
        if not 0 <= self.pad_value <= 255:
            raise SettingError(f"pad_value is {self.pad_value!r}: give a grey level from 0 to 255.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return what the network sees of a decoded picture.

        Args:
            image: uint8 array `(h, w, 3)`, RGB, of any size.

        Returns:
            uint8 array of shape `(*image_size, 3)`, C-contiguous.
        """
        height, width = self.image_size
        if self.fit == "pad":
            return self._letterbox(image)
        if self.fit == "squash":
            return resize(image, (height, width))
        x0, y0, x1, y1 = self.window(image.shape[1], image.shape[0])
        return resize(
            image[round(y0) : max(round(y1), round(y0) + 1), round(x0) : max(round(x1), round(x0) + 1)], (height, width)
        )

    def load(self, data: bytes) -> np.ndarray:
        """Decode the bytes of a picture file and return what the network sees, uint8 `(*image_size, 3)`.

        JPEGs are decoded at the smallest scale that still gives the network more pixels than it needs.

        Raises:
            ImageError: The bytes are no picture that can be read.
        """
        return self(images.decode(data, min_size=self.decode_size()))

    def window(self, width: int, height: int) -> Box:
        """Return `(x0, y0, x1, y1)`, the part of a `width` x `height` picture that the network sees."""
        if self.fit != "crop":
            return (0.0, 0.0, float(width), float(height))
        rows, columns = self.image_size
        scale = min(width / columns, height / rows) * self.crop_fraction
        across, down = columns * scale / 2, rows * scale / 2
        return (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)

    def share_seen(self, width: int, height: int) -> float:
        """Return the share of the picture's area that the network sees, in (0, 1]."""
        x0, y0, x1, y1 = self.window(width, height)
        return (x1 - x0) * (y1 - y0) / (width * height)

    def decode_size(self) -> tuple[int, int]:
        """Return the smallest `(height, width)` at which a picture may be decoded without losing detail."""
        fraction = self.crop_fraction if self.fit == "crop" else 1.0
        return (round(self.image_size[0] / fraction), round(self.image_size[1] / fraction))

    def _letterbox(self, image: np.ndarray) -> np.ndarray:
        height, width = self.image_size
        scale = min(width / image.shape[1], height / image.shape[0])
        inner = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
        canvas = np.full((height, width, 3), self.pad_value, np.uint8)
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        canvas[top : top + inner[0], left : left + inner[1]] = resize(image, inner)
        return canvas

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary that `from_json` turns into an equal object."""
        return {**asdict(self), "image_size": list(self.image_size)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """Return the preprocessing described by `to_json`.

        Raises:
            SettingError: A value is missing, unknown or out of range.
        """
        try:
            return cls(**{**values, "image_size": tuple(values["image_size"])})
        except (TypeError, KeyError) as error:
            raise SettingError(f"preprocessing {values!r} is not of this version of headstart: {error}.") from error


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 `(h, w, 3)` to `size = (height, width)` without aliasing, C-contiguous.

    Large pictures are first averaged down (area) to within a factor of two; bilinear does the rest. At these
    factors bilinear touches every pixel, and costs a fifth of an antialiased bicubic
    (docs/decisions/0003-decoding.md has the times and the accuracies).
    """
    height, width = size
    factors = (max(1, image.shape[0] // (2 * height)), max(1, image.shape[1] // (2 * width)))
    if factors != (1, 1):
        smaller = (max(width, image.shape[1] // factors[1]), max(height, image.shape[0] // factors[0]))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    return np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """Return uint8 `(h, w, 3)` averaged down (area) to `longest` pixels on its longer side; never enlarged.

    For people to look at, and to measure pictures alike; what a network sees is made by `Preprocessing`.
    """
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
