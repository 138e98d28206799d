"""Heat maps as pictures: enlarged, laid back over the whole picture, and drawn. numpy and OpenCV only."""

from __future__ import annotations

import cv2
import numpy as np

from headstart.core.preprocessing import Preprocessing

# How much of the picture's colour is left, and how bright it is, where the network did not look.
COLOUR, BRIGHTNESS, UNSEEN = 0.5, 0.85, 0.4
OPACITY = 0.55


def enlarge(grids: np.ndarray, size: tuple[int, ...], least: float = 0.0) -> np.ndarray:
    """Return heat of a coarse grid, smoothly enlarged, the strongest place of each picture 1.

    Args:
        grids: float `(n, rows, columns)`, at least 0.
        size: `(height, width)`.
        least: What the strongest place must have to be 1; with less it stays as much below 1.

    Returns:
        float32 `(n, height, width)` in [0, 1].
    """
    height, width = size[:2]
    large = np.zeros((len(grids), height, width), np.float32)
    for target, grid in zip(large, grids, strict=True):
        if np.isfinite(grid).all() and grid.max() > 0:
            scaled = cv2.resize(
                np.asarray(grid / grid.max(), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
            )
            target[:] = np.clip(scaled, 0, None) / scaled.max() * (grid.max() / max(least, grid.max()))
    return large


def over_whole(heat: np.ndarray, preprocessing: Preprocessing, size: tuple[int, int]) -> np.ndarray:
    """Return the heat of what the network sees, laid back over the whole picture.

    Args:
        heat: float32 `(*preprocessing.image_size)`.
        preprocessing: How the picture was made to fit.
        size: `(height, width)` of the whole picture, at whatever scale it is to be shown.

    Returns:
        float32 `(height, width)`, NaN where the network saw nothing.
    """
    height, width = size
    if preprocessing.fit == "pad":
        rows, columns = heat.shape
        scale = min(columns / width, rows / height)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
        heat = heat[top : top + inner[0], left : left + inner[1]]
    x0, y0, x1, y1 = preprocessing.window(width, height)
    left, top = round(x0), round(y0)
    right, bottom = max(round(x1), left + 1), max(round(y1), top + 1)
    whole = np.full((height, width), np.nan, np.float32)
    whole[top:bottom, left:right] = cv2.resize(heat, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return whole


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draw heat over a picture.

    The picture is paled, so that colour means heat alone; what the network did not see (NaN) is dark.

    Args:
        image: uint8 RGB `(h, w, 3)`.
        heat: float32 `(h, w)` in [0, 1] or NaN; another size is resized.

    Returns:
        uint8 RGB `(h, w, 3)`.
    """
    height, width = image.shape[:2]
    if heat.shape != (height, width):
        heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
    unseen = np.isnan(heat)
    strength = np.nan_to_num(heat)[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    paled = BRIGHTNESS * (COLOUR * image + (1 - COLOUR) * grey)
    levels = np.round(255 * strength[..., 0]).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    drawn = paled + OPACITY * strength * (colours - paled)
    drawn[unseen] = UNSEEN * grey.repeat(3, axis=2)[unseen]
    return np.asarray(np.clip(drawn, 0, 255).round(), np.uint8)
