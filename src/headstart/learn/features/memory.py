"""Whether features fit into memory: asked before hours of extraction, instead of being killed after them."""

from __future__ import annotations

from headstart.core.errors import SettingError
from headstart.core.machine import free_memory
from headstart.core.text import count

# The features themselves, those of them that a head is fitted on, and these once more, scaled.
COPIES = 3


def check_memory(pictures: int, views: int, *widths: int) -> None:
    """Raise SettingError if the features of so many pictures and views cannot be held in memory.

    Whoever is going to hold them asks once, before the extraction begins: later it would cost what was done by then.

    Args:
        pictures: How many.
        views: Of each picture.
        widths: Numbers of float32 features of one view, of each backbone whose features are held together; a head is
            fitted on those of one at a time.
    """
    at_once = sum(widths) + (COPIES - 1) * max(widths)
    needed, there = 4 * pictures * views * at_once, free_memory()
    if there is not None and needed > there:
        raise SettingError(
            f"{count(pictures, 'picture')} x {count(views, 'view')} x {count(sum(widths), 'feature')} take "
            f"{needed / 1e9:.1f} GB of memory, and {there / 1e9:.1f} GB are free: choose pooling avg or max, a smaller "
            "image_size, fewer views, or a backbone with fewer features."
        )
