"""By what a picture is known again: its digest, and those of the pictures that a model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.core import pictures as sources
from headstart.core.pictures import Picture

# Signs of a digest that a model folder keeps: enough to know a picture again.
SHORT = 16


def of_bytes(data: bytes) -> str:
    """Return the BLAKE2b-128 of a file's bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def of_picture(picture: Picture) -> str:
    """Return the digest of a picture's content: of a file's bytes, or of an array's shape and pixels.

    Raises:
        ImageError: The file cannot be read.
    """
    data = sources.to_bytes(picture)
    if isinstance(data, np.ndarray):
        data = repr(data.shape).encode() + np.ascontiguousarray(data).tobytes()
    return of_bytes(data)


def short(digest: str) -> str:
    """Return the part of a digest that a model folder keeps."""
    return digest[:SHORT]


def trained_on(description: Mapping[str, Any]) -> frozenset[str]:
    """Return the short digests of the pictures that a model learned from; none where `model.json` does not say."""
    return frozenset(description.get("data", {}).get("training_digests", ()))
