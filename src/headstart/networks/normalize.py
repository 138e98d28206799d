"""The first layer of every network: uint8 pictures -> the numbers the weights were trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

# Mean of ImageNet's pixels in BGR order, as subtracted by Caffe, VGG's authors and Keras
# (keras.applications.imagenet_utils.preprocess_input, mode "caffe").
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class Normalize(nn.Module):
    """uint8 RGB `(n, h, w, 3)` -> float `(n, 3, h, w)`: `(pixel - mean) / std`, channel by channel.

    The result keeps the memory order of the pictures, so convolutions run channels-last, the fast way on a CPU.

    Args:
        mean: Three numbers on the scale 0-255, in the order of the output's channels.
        std: Three numbers on the scale 0-255.
        bgr: Whether the channels are put in the order blue, green, red.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, bgr: bool = False) -> None:
        super().__init__()
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return float `(n, 3, h, w)` of uint8 `images (n, h, w, 3)`."""
        if self.bgr:
            images = images.flip(-1)
        values = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        return (values - self.mean) / self.std

    def extra_repr(self) -> str:
        """Return the settings that `print` shows."""
        mean, std = ([round(v, 3) for v in t.flatten().tolist()] for t in (self.mean, self.std))
        return f"mean={mean}, std={std}, bgr={self.bgr}"


def caffe() -> Normalize:
    """Return Keras's preprocessing for VGG16: BGR, mean subtracted, not scaled."""
    return Normalize(CAFFE_MEAN_BGR, (1.0, 1.0, 1.0), bgr=True)


def scaled(mean: Sequence[float], std: Sequence[float]) -> Normalize:
    """Return the usual preprocessing, from a mean and a standard deviation on the scale 0-1 as timm records them."""
    return Normalize([255 * value for value in mean], [255 * value for value in std])
