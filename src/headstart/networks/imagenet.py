"""The 1000 classes of ImageNet-1k, in the order of every ImageNet classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class ImageNetClass:
    """One class: WordNet id such as `n02123045`, its first name, and all its names."""

    id: str
    name: str
    names: str


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """Return the 1000 classes, by index of the classifier's output (read from the files that timm ships)."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return tuple(
        ImageNetClass(label, names.split(",")[0].strip(), names)
        for label, names in info.label_descriptions(as_dict=True).items()  # type: ignore[union-attr]
    )
