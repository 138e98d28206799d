"""What the network really sees: a sheet of pictures after crop and resize, plain and augmented, and what is cut off."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core import digests, images
from headstart.core import pictures as sources
from headstart.core.errors import ImageError, SettingError
from headstart.core.preprocessing import Preprocessing, resize
from headstart.core.text import count, shown
from headstart.learn import parameters
from headstart.learn.audit import Record
from headstart.learn.augment import Augmentation, make_augmentation, view_generator
from headstart.learn.dataset import read_dataset
from headstart.learn.given import DEFAULT_AUGMENTATION
from headstart.learn.kinds import wrong_values
from headstart.learn.manifest import MANIFEST_SUFFIXES
from headstart.networks import load_backbone

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    from headstart.learn.classifier import ImageClassifier
    from headstart.learn.several import SeveralLabels

VIEWS, MOST_VIEWS = 5, 20
# A picture of 4:3 loses 43 % to the usual crop (0.875 of the sides of the centred square) and one of 16:9 57 %: that is
# what the networks were trained with. Above this it is wider or taller than 1.9 to 1.
MUCH = 0.6
ONE_IN = 20

TILE, GAP, MARGIN, CAPTION, LINE, APART = 168, 12, 36, 40, 20, 8
INK, SOFT, PAPER, ACCENT = (34, 34, 34), (118, 118, 118), (255, 255, 255), (213, 94, 0)


@dataclass(frozen=True)
class Chosen:
    """A picture to look at: its file, what to call it, and its label where only a manifest tells it."""

    path: Path
    name: str
    label: str = ""


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture as the network sees it.

    Attributes:
        picture: Which it is.
        cut_off: Share of its area that the network never sees, in [0, 1).
        window: `(x0, y0, x1, y1)`, the part that it sees, as shares of width and height.
        size: Width and height in pixels.
        whole: uint8 RGB `(h, w, 3)`, the whole picture, small.
        views: uint8 RGB `(*image_size, 3)` each: the plain view, then the augmented ones that training sees.
    """

    picture: Chosen
    cut_off: float
    window: tuple[float, float, float, float]
    size: tuple[int, int]
    whole: np.ndarray
    views: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """What `preview` returns.

    Attributes:
        image: The sheet itself.
        seen: The pictures on it, all with the same number of views.
        left_out: `(name, reason)` of pictures that were to be on it and cannot be read.
        notes: What has to be known of it, a sentence each.
    """

    image: Image.Image
    seen: list[Seen]
    left_out: list[tuple[str, str]]
    notes: list[str]


def preview(
    data: str | os.PathLike[str], given: ImageClassifier, *, pictures: int = 8, example: str | None = None
) -> Sheet:
    """Return a sheet of pictures as `fit` of a classifier sees them; no weights are loaded.

    Without `views` each picture has five, and at most twenty; without augmentation one, as all would be the same.

    Args:
        data: A folder, with or without class folders; a manifest; or one picture.
        given: The classifier, fitted or not: its backbone, size, fit mode, augmentation, views, seed and labels.
        pictures: How many at most.
        example: A policy that is drawn instead of the classifier's augmentation, and said to be an example.

    Raises:
        SettingError: A parameter cannot work.
        DataError: There is no picture, or the manifest cannot be used.
        ImageError: Not one of the pictures can be read.
    """
    if wrong := wrong_values(parameters.all_values(given)):
        raise SettingError("\n  ".join(wrong.values()))
    augmentation = given.augmentation if example is None else example
    changes = make_augmentation(augmentation)
    views = 1 if changes == Augmentation() else min(given.views or VIEWS, MOST_VIEWS)
    size = parameters.image_size(given)
    preprocessing = load_backbone(given.backbone, image_size=size, fit=given.fit_mode, blank=True).preprocessing
    chosen = choose_pictures(data, pictures, parameters.several_labels(given))
    seen, left_out = look_at_all(chosen, preprocessing, changes, views, given.seed)
    notes = remarks(seen, len(left_out), example)
    height, width = preprocessing.image_size
    subtitle = (
        f"{given.backbone}, {width} × {height} px, {given.fit_mode}; augmentation {_words(augmentation)}, "
        f"seed {given.seed}"
    )
    title = f"What the network sees of {Path(data).resolve().name}"
    return Sheet(draw_sheet(seen, title, subtitle, notes), seen, left_out, notes)


def _words(augmentation: Any) -> str:
    if not isinstance(augmentation, dict):
        return str(augmentation or DEFAULT_AUGMENTATION)
    return ", ".join(str(value) if name == "policy" else f"{name} {value:g}" for name, value in augmentation.items())


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


def choose_pictures(data: str | os.PathLike[str], number: int, several: SeveralLabels | None = None) -> list[Chosen]:
    """Return up to `number` pictures, spread evenly over sorted paths below a folder, or labels of a manifest.

    Args:
        data: A folder, with or without class folders; a manifest; or one picture.
        number: How many at most.
        several: How several labels a picture are written in a manifest.

    Raises:
        SettingError: `number` is below 1.
        DataError: There is no picture, or the manifest cannot be used.
    """
    if number < 1:
        raise SettingError(f"pictures is {number}: give a whole number from 1.")
    is_manifest = not os.path.isdir(data) and os.path.splitext(data)[1].lower() in MANIFEST_SUFFIXES
    if is_manifest or several is not None:
        found = sorted(_listed(data, several), key=lambda one: (one.label, one.name))
    else:
        paths = [Path(str(picture)) for picture in sources.as_list(data)]
        found = [Chosen(path, _below(path, Path(data))) for path in paths]
    places = np.linspace(0, len(found) - 1, min(number, len(found))).round().astype(int)
    return [found[place] for place in places]


def _listed(manifest: str | os.PathLike[str], several: SeveralLabels | None) -> Iterator[Chosen]:
    dataset = read_dataset(manifest, several=several, for_training=False)
    base = Path(os.path.abspath(os.path.expanduser(manifest))).parent
    for row, path in enumerate(map(Path, dataset.paths)):
        yield Chosen(path, _below(path, base), dataset.label(row) or "no label")


def _below(path: Path, folder: Path) -> str:
    """Return a path as it is from a folder on, or whole where it is elsewhere."""
    inner = path.relative_to(folder) if path.is_relative_to(folder) else path
    return inner.as_posix() if inner.parts else path.name


def look_at_all(
    chosen: Sequence[Chosen], preprocessing: Preprocessing, augmentation: Augmentation, views: int, seed: int
) -> tuple[list[Seen], list[tuple[str, str]]]:
    """Return the pictures as the network sees them, and `(name, reason)` of those that cannot be read: see `look`.

    Raises:
        ImageError: Not one of them can be read.
    """
    seen: list[Seen] = []
    unreadable: list[tuple[str, str]] = []
    for picture in chosen:
        try:
            seen.append(look(picture, preprocessing, augmentation, views, seed))
        except ImageError as error:
            unreadable.append((picture.name, str(error)))
    if not seen:
        (name, reason), many = unreadable[0], len(unreadable)
        others = f" None of the {many} that were chosen can be read; `headstart check` names all." if many > 1 else ""
        raise ImageError(f"{shown(name)}: {reason}{others}")
    return seen, unreadable


def remarks(seen: Sequence[Seen], unreadable: int, example: str | None) -> list[str]:
    """Return what has to be known of a sheet, a sentence each.

    Args:
        seen: What is on it.
        unreadable: How many pictures were to be on it and cannot be read.
        example: The policy of its views, where nobody asked for one.
    """
    said = []
    if example is not None:
        said.append(f"The augmented views are an example: `fit` augments so only with --augmentation {example}.")
    if many := sum(picture.cut_off > MUCH for picture in seen):
        lose = "loses" if many == 1 else "lose"
        said.append(
            f"{many:,} of {count(len(seen), 'picture')} {lose} over {100 * MUCH:.0f} % of the area: --fit-mode pad "
            "shows the whole picture, here and in `fit`."
        )
    if unreadable:
        are = "is" if unreadable == 1 else "are"
        said.append(f"{count(unreadable, 'picture')} cannot be read and {are} left out, as in `fit`.")
    return said


def look(picture: Chosen, preprocessing: Preprocessing, augmentation: Augmentation, views: int, seed: int) -> Seen:
    """Return one picture as the network sees it: exactly the pixels that `fit` computes features of.

    Args:
        picture: Which.
        preprocessing: Size and crop.
        augmentation: What happens to views 1 and above.
        views: How many views, the plain one included.
        seed: Of the augmentation.

    Raises:
        ImageError: It cannot be read; one sentence without the path.
    """
    data = images.read(picture.path)
    height, width = preprocessing.decode_size()
    scale = augmentation.decode_scale()
    decoded = images.decode(data, min_size=(round(height * scale), round(width * scale)))
    whole = images.decode(data, min_size=(TILE, TILE))
    size, plain = images.inspect(data), preprocessing.load(data)
    shape = (size.width, size.height)
    turned, header = math.log(whole.shape[1] / whole.shape[0]), math.log(size.width / size.height)
    if abs(turned + header) < abs(turned - header):
        shape = shape[::-1]  # the header is from before the EXIF rotation
    x0, y0, x1, y1 = preprocessing.window(*shape)
    generators = [view_generator(seed, digests.of_bytes(data), view) for view in range(1, views)]
    return Seen(
        picture=picture,
        cut_off=1 - preprocessing.share_seen(*shape),
        window=(x0 / shape[0], y0 / shape[1], x1 / shape[0], y1 / shape[1]),
        size=shape,
        whole=whole,
        views=(plain, *(augmentation(decoded, preprocessing, generator) for generator in generators)),
    )


def draw_sheet(seen: Sequence[Seen], title: str, subtitle: str, notes: Sequence[str] = ()) -> Image.Image:
    """Return the sheet: a row a picture, with the whole file and the cut-off part dimmed, then each view.

    Args:
        seen: At least one picture, all with the same number of views.
        title: In large letters.
        subtitle: Below it.
        notes: Sentences that have to be read, below that.
    """
    from PIL import Image, ImageDraw

    views = len(seen[0].views)
    width = 2 * MARGIN + (views + 1) * (TILE + GAP) + GAP
    room = width - 2 * MARGIN
    paragraphs = [_wrapped(text.replace("`", ""), 14, room) for text in (subtitle, *notes)]
    top = MARGIN + 68 + sum(LINE * len(lines) + APART for lines in paragraphs)
    height = top + len(seen) * (TILE + CAPTION) + MARGIN // 2
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 8), _fitting(title, 24, room, bold=True), INK, _font(24, bold=True))
    y = MARGIN + 26
    for place, lines in enumerate(paragraphs):
        for line in lines:
            pen.text((MARGIN, y), line, INK if place else SOFT, _font(14))
            y += LINE
        y += APART
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
    named = "  ".join(filter(None, (picture.picture.name, picture.picture.label)))
    about = f"{shown(named)}  {picture.size[0]} × {picture.size[1]} px"
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


def _wrapped(text: str, size: int, room: float) -> list[str]:
    """Return the text in lines as wide as the room in pixels."""
    font, lines = _font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_fitting(line, size, room) for line in lines]


def _shortened(text: str, kept: int) -> str:
    return f"{text[: math.ceil(kept / 2)]}…{text[len(text) - kept // 2 :]}"


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return matplotlib's DejaVu Sans: it is there wherever headstart is, and knows most alphabets."""
    import matplotlib
    from PIL import ImageFont

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file, size)
