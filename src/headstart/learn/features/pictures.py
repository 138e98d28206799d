"""What features are computed of: pictures, each with the digest of its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.core import digests
from headstart.core.errors import DataError, ImageError
from headstart.core.pictures import Picture, name


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures, and the digest of the content of each (`core/digests`).

    Attributes:
        items: Paths, bytes, arrays or PIL images.
        digests: As many; a file that has changed since is an error where it is read again.
    """

    items: tuple[Picture, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> Pictures:
        """Take the digests of pictures.

        Raises:
            DataError: Pictures cannot be read; the message names them.
        """
        found, problems = [], []
        for index, picture in enumerate(pictures):
            try:
                found.append(digests.of_picture(picture))
            except ImageError as error:
                problems.append(f"{name(picture, index)}: {error}")
        if problems:
            raise DataError("pictures cannot be read:\n  " + "\n  ".join(problems))
        return cls(tuple(pictures), tuple(found))

    def __len__(self) -> int:
        return len(self.items)

    def some(self, rows: Sequence[int] | np.ndarray) -> Pictures:
        """Return some of the pictures, by their positions."""
        return Pictures(tuple(self.items[row] for row in rows), tuple(self.digests[row] for row in rows))
