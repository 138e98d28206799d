"""What the network really sees: a sheet of pictures after crop and resize, plain and augmented, and what is cut off."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core import digests, images
from headstart.core import pictures as sources
from headstart.core.errors import ImageError
from headstart.core.preprocessing import Preprocessing, resize
from headstart.learn.audit import Record
from headstart.learn.augment import Augmentation, make_augmentation, view_generator
from headstart.networks import DEFAULT, load_backbone

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# A picture of 4:3 loses 43 % to the usual crop (0.875 of the sides of the centred square) and one of 16:9 57 %: that is
# what the networks were trained with. Above this it is wider or taller than 1.9 to 1.
MUCH = 0.6
ONE_IN = 20

TILE, GAP, MARGIN, CAPTION = 168, 12, 36, 40
INK, SOFT, PAPER, ACCENT = (34, 34, 34), (118, 118, 118), (255, 255, 255), (213, 94, 0)


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture as the network sees it.

    Attributes:
        name: Its path below the folder.
        cut_off: Share of its area that the network never sees, in [0, 1).
        window: `(x0, y0, x1, y1)`, the part that it sees, as shares of width and height.
        size: Width and height in pixels.
        whole: uint8 RGB `(h, w, 3)`, the whole picture, small.
        views: uint8 RGB `(*image_size, 3)` each: the plain view, then the augmented ones that training sees.
    """

    name: str
    cut_off: float
    window: tuple[float, float, float, float]
    size: tuple[int, int]
    whole: np.ndarray
    views: tuple[np.ndarray, ...]


def crop_warning(records: Sequence[Record], preprocessing: Preprocessing) -> str | None:
    """Return one sentence if the crop loses much of many pictures, naming the cure; else None.

    "Much" is over 60 % of the area, "many" more than one picture in twenty.

    Args:
        records: What the audit found; pictures of unknown size are left out.
        preprocessing: Gives the crop.
    """
    known = [record for record in records if record.width and record.height]
    losses = [1 - preprocessing.share_seen(record.width, record.height) for record in known]
    many = sum(loss > MUCH for loss in losses)
    if not many or many * ONE_IN <= len(known):
        return None
    worst = int(np.argmax(losses))
    return (
        f"The network does not see over {100 * MUCH:.0f} % of {many:,} of {len(known):,} pictures, since they are very "
        f"wide or tall (worst: {Path(known[worst].path).name}, {known[worst].width} × {known[worst].height} px, "
        f"{100 * losses[worst]:.0f} % cut off). Look at them with `headstart preview`; --fit-mode pad shows the whole "
        "picture."
    )


def choose_pictures(folder: str | os.PathLike[str], count: int) -> list[Path]:
    """Return up to `count` pictures below a folder, spread evenly over its sorted paths, and so over its classes.

    Raises:
        DataError: It holds none.
    """
    found = [Path(str(path)) for path in sources.as_list(folder)]
    return [found[position] for position in np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]


def look(
    path: Path, name: str, preprocessing: Preprocessing, augmentation: Augmentation, views: int, seed: int
) -> Seen:
    """Return one picture as the network sees it: exactly the pixels that `fit` computes features of.

    Args:
        path: The picture.
        name: What to call it.
        preprocessing: Size and crop.
        augmentation: What happens to views 1 and above.
        views: How many views, the plain one included.
        seed: Of the augmentation.

    Raises:
        ImageError: It cannot be read; one sentence with the path.
    """
    try:
        data = images.read(path)
        height, width = preprocessing.decode_size()
        scale = augmentation.decode_scale()
        decoded = images.decode(data, min_size=(round(height * scale), round(width * scale)))
        whole = images.decode(data, min_size=(TILE, TILE))
        size, plain = images.inspect(data), preprocessing.load(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    shape = (size.width, size.height)
    turned, header = math.log(whole.shape[1] / whole.shape[0]), math.log(size.width / size.height)
    if abs(turned + header) < abs(turned - header):
        shape = shape[::-1]  # the header is from before the EXIF rotation
    x0, y0, x1, y1 = preprocessing.window(*shape)
    generators = [view_generator(seed, digests.of_bytes(data), view) for view in range(1, views)]
    return Seen(
        name=name,
        cut_off=1 - preprocessing.share_seen(*shape),
        window=(x0 / shape[0], y0 / shape[1], x1 / shape[0], y1 / shape[1]),
        size=shape,
        whole=whole,
        views=(plain, *(augmentation(decoded, preprocessing, generator) for generator in generators)),
    )


def preview(
    folder: str | os.PathLike[str],
    *,
    backbone: str = DEFAULT,
    image_size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    augmentation: Any = "standard",
    views: int = 5,
    pictures: int = 8,
    seed: int = 0,
) -> tuple[list[Seen], Image.Image]:
    """Return pictures of a folder as the network sees them, and the sheet that shows them.

    Args:
        folder: Of pictures; they are spread over its sorted paths.
        backbone: Whose preprocessing it is; its weights are not loaded.
        image_size: Side, or (height, width), in pixels; None: the backbone's own.
        fit: `crop`, `pad` or `squash`.
        augmentation: As `ImageClassifier` takes it.
        views: How many of each picture, the first plain.
        pictures: How many at most.
        seed: Of the augmentation: the views are those that `fit` makes of it.

    Raises:
        SettingError: There is no such backbone or augmentation, or it cannot have this size or fit.
        DataError: The folder holds no picture.
        ImageError: A picture cannot be read; the message names it.
    """
    changes = make_augmentation(augmentation)
    preprocessing = load_backbone(backbone, image_size=image_size, fit=fit, blank=True).preprocessing
    chosen = {path: path.relative_to(folder) for path in choose_pictures(folder, pictures)}
    seen = [
        look(path, name.as_posix() if name.parts else path.name, preprocessing, changes, views, seed)
        for path, name in chosen.items()
    ]
    height, width = preprocessing.image_size
    subtitle = f"{backbone}, {width} × {height} px, {fit}; augmentation {_words(augmentation)}, seed {seed}"
    return seen, draw_sheet(seen, f"What the network sees of {Path(folder).resolve().name}", subtitle)


def _words(augmentation: Any) -> str:
    if not isinstance(augmentation, dict):
        return str(augmentation or "none")
    return ", ".join(str(value) if name == "policy" else f"{name} {value:g}" for name, value in augmentation.items())


def draw_sheet(seen: Sequence[Seen], title: str, subtitle: str) -> Image.Image:
    """Return the sheet: a row a picture, with the whole file and the cut-off part dimmed, then each view.

    Args:
        seen: At least one picture, all with the same number of views.
        title: In large letters.
        subtitle: Below it.
    """
    from PIL import Image, ImageDraw

    views = len(seen[0].views)
    top = MARGIN + 96
    width = 2 * MARGIN + (views + 1) * (TILE + GAP) + GAP
    height = top + len(seen) * (TILE + CAPTION) + MARGIN // 2
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 8), _fitting(title, 24, width - 2 * MARGIN, bold=True), INK, _font(24, bold=True))
    pen.text((MARGIN, MARGIN + 26), _fitting(subtitle, 14, width - 2 * MARGIN), SOFT, _font(14))
    headings = ["the file, dimmed where unseen", "plain view", *(f"view {number}" for number in range(1, views))]
    for column, heading in enumerate(headings):
        pen.text((_left(column), top - 24), heading, SOFT, _font(11))
    for row, picture in enumerate(seen):
        y = top + row * (TILE + CAPTION)
        _paste_whole(sheet, pen, picture, MARGIN, y)
        for column, view in enumerate(picture.views, 1):
            tile = Image.fromarray(resize(view, _within(view.shape[1], view.shape[0])[::-1]))
            sheet.paste(tile, (_left(column), y + (TILE - tile.height) // 2))
        _caption(pen, picture, y + TILE + 6)
    return sheet


def _left(column: int) -> int:
    return MARGIN + column * (TILE + GAP) + (GAP if column else 0)  # what the network sees stands a little apart


def _within(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of a picture that is made to fit into a tile."""
    scale = TILE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _paste_whole(sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Seen, left: int, top: int) -> None:
    from PIL import Image

    width, height = _within(*picture.size)
    pixels = resize(picture.whole, (height, width))
    x0, y0, x1, y1 = (
        round(share * side) for share, side in zip(picture.window, (width, height, width, height), strict=True)
    )
    dimmed = (pixels * 0.25 + 255 * 0.75).astype(np.uint8)
    dimmed[y0:y1, x0:x1] = pixels[y0:y1, x0:x1]
    left, top = left + (TILE - width) // 2, top + (TILE - height) // 2
    sheet.paste(Image.fromarray(dimmed), (left, top))
    if picture.cut_off > 0:
        pen.rectangle(
            (left + x0, top + y0, left + max(x1, x0 + 1) - 1, top + max(y1, y0 + 1) - 1), outline=ACCENT, width=2
        )


def _caption(pen: ImageDraw.ImageDraw, picture: Seen, y: int) -> None:
    lost = f"{100 * picture.cut_off:.0f} % cut off" if picture.cut_off >= 0.005 else "nothing cut off"
    much = picture.cut_off > MUCH
    pen.text((MARGIN, y), lost, ACCENT if much else INK, _font(12, bold=True))
    about = f"{picture.name}  {picture.size[0]} × {picture.size[1]} px"
    room = len(picture.views) * (TILE + GAP) - GAP
    pen.text((_left(1), y), _fitting(about, 12, room), SOFT, _font(12))


def _fitting(text: str, size: int, room: float, *, bold: bool = False) -> str:
    """Return the text, its middle left out where it is wider than the room in pixels."""
    font = _font(size, bold=bold)
    if font.getlength(text) <= room:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(_shortened(text, kept)) > room:
        kept -= 1
    return _shortened(text, kept)


def _shortened(text: str, kept: int) -> str:
    return f"{text[: math.ceil(kept / 2)]}…{text[len(text) - kept // 2 :]}"


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return matplotlib's DejaVu Sans: it is there wherever headstart is, and knows most alphabets."""
    import matplotlib
    from PIL import ImageFont

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file, size)
