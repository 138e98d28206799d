"""The sheet of what the network sees, and the warning about pictures that the crop does not suit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from headstart.cli.preview import command
from headstart.core import pictures as sources
from headstart.core.digests import of_picture
from headstart.core.errors import DataError, HeadstartError, ImageError
from headstart.core.preprocessing import Preprocessing
from headstart.learn.audit import Record
from headstart.learn.augment import Augmentation, make_augmentation
from headstart.learn.features.extract import FeatureSettings, see
from headstart.learn.preview import choose_pictures, crop_warning, draw_sheet, look

SMALL = Preprocessing(image_size=(64, 64))


def record(width: int, height: int, name: str = "a.jpg") -> Record:
    return Record(f"/data/{name}", "0" * 32, 0, width, height, "JPEG")


def shown(path: Path, preprocessing: Preprocessing = SMALL, augmentation: Augmentation | None = None, views: int = 1):
    return look(path, path.name, preprocessing, augmentation or Augmentation(), views, seed=0)


def test_ordinary_pictures_give_no_warning() -> None:
    assert crop_warning([record(640, 480), record(480, 640), record(1920, 1080), record(0, 0)], SMALL) is None
    assert crop_warning([], SMALL) is None


def test_many_very_wide_pictures_give_a_warning_that_names_the_worst_and_the_cure() -> None:
    records = [record(640, 480)] * 18 + [record(2000, 500), record(500, 3000, "tall.jpg")]
    warning = crop_warning(records, SMALL)
    assert warning is not None
    for words in ("60 %", "2 of 20 pictures", "tall.jpg, 500 × 3000 px, 87 % cut off", "--fit-mode pad"):
        assert words in warning


def test_one_wide_picture_in_twenty_is_not_many() -> None:
    assert crop_warning([record(640, 480)] * 19 + [record(2000, 500)], SMALL) is None
    assert crop_warning([record(640, 480)] * 18 + [record(2000, 500)], SMALL) is not None


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_nothing_is_lost_where_nothing_is_cropped(fit: str) -> None:
    assert crop_warning([record(4000, 400)] * 5, Preprocessing(image_size=(64, 64), fit=fit)) is None  # type: ignore[arg-type]


def test_the_views_are_the_pixels_that_fit_computes_features_of(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    class Backbone:
        preprocessing = SMALL

    path, changes = make_picture(tmp_path / "a.jpg", size=(300, 400)), make_augmentation("strong")
    how = FeatureSettings(views=4, augmentation=changes, seed=0)
    expected = see(str(path), of_picture(path), [0, 1, 2, 3], Backbone(), how)  # type: ignore[arg-type]
    views = shown(path, augmentation=changes, views=4).views
    assert len(views) == 4
    for view, other in zip(views, expected, strict=True):
        np.testing.assert_array_equal(view, other)
    np.testing.assert_array_equal(views[0], sources.load(path, SMALL))


@pytest.mark.parametrize(("size", "cut_off"), [((100, 100), 1 - 0.875**2), ((100, 300), 1 - 0.875**2 / 3)])
def test_the_share_cut_off_is_told(
    size: tuple[int, int], cut_off: float, make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    seen = shown(make_picture(tmp_path / "a.png", size=size))
    assert seen.cut_off == pytest.approx(cut_off)
    x0, y0, x1, y1 = seen.window
    assert (x1 - x0) * (y1 - y0) == pytest.approx(1 - cut_off)


def test_a_picture_that_lies_on_its_side_is_shown_upright(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    with Image.open(make_picture(tmp_path / "lying.png", size=(100, 300))) as lying:
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by a quarter
        lying.save(tmp_path / "turned.jpg", exif=exif)
    seen = shown(tmp_path / "turned.jpg")
    assert seen.size == (100, 300)
    assert seen.whole.shape[0] > seen.whole.shape[1]
    x0, y0, x1, y1 = seen.window
    assert y1 - y0 < x1 - x0  # the height is what is cut


def test_what_is_cut_off_is_dimmed_and_what_is_seen_is_not(tmp_path: Path) -> None:
    Image.new("RGB", (400, 100), (0, 0, 200)).save(tmp_path / "blue.png")
    sheet = np.asarray(draw_sheet([shown(tmp_path / "blue.png")], "title", "subtitle")).astype(int)
    blue, dimmed = (sheet == (0, 0, 200)).all(axis=2), (sheet == (191, 191, 241)).all(axis=2)
    assert dimmed.sum() > blue[:, : sheet.shape[1] // 2].sum() > 0  # four wide, of which less than one is seen


def test_a_sheet_has_a_row_a_picture_and_a_column_a_view(make_picture: Callable[..., Path], tmp_path: Path) -> None:
    seen = [shown(make_picture(tmp_path / f"{i}.jpg", seed=i), views=3) for i in range(3)]
    one, two, three = (draw_sheet(seen[:count], "title", "subtitle") for count in (1, 2, 3))
    fewer = draw_sheet([shown(tmp_path / "0.jpg", views=2)], "title", "subtitle")
    assert three.height - two.height == two.height - one.height > 0
    assert one.width == three.width > fewer.width


def test_letters_of_other_alphabets_and_names_too_long_are_drawn(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_picture(tmp_path / "a.jpg")
    names = ["пчела.jpg", "蜂" * 200 + ".jpg", "x" * 500]
    sheet = draw_sheet([look(path, name, SMALL, Augmentation(), 2, 0) for name in names], "title" * 100, "§")
    right = np.asarray(sheet)[:, -36:]
    assert (right == 255).all()  # the margin stays empty


def test_pictures_are_spread_over_the_classes(class_folders: Callable[..., Path]) -> None:
    folder = class_folders(per_class=10)
    chosen = choose_pictures(folder, 4)
    assert [path.parent.name for path in chosen] == ["dots", "dots", "stripes", "stripes"]
    assert len(choose_pictures(folder, 100)) == 20


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(ImageError, match=r"broken\.jpg: "):
        shown(tmp_path / "broken.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        choose_pictures(tmp_path / "empty", 3)


def test_the_command_writes_the_sheet_and_tells_the_shares(class_folders: Callable[..., Path], tmp_path: Path) -> None:
    folder, out = class_folders(per_class=3, size=(60, 240)), tmp_path / "new" / "sheet.png"
    arguments = [str(folder), "--out", str(out), "--image-size", "48", "--pictures", "2", "--views", "3"]
    done = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert [row["path"] for row in told["pictures"]] == ["dots/dots-000.jpg", "stripes/stripes-002.jpg"]
    assert told["pictures"][0]["cut_off"] == pytest.approx(1 - 0.875**2 / 4, abs=1e-4)
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
    padded = CliRunner().invoke(command, [*arguments, "--fit-mode", "pad"], catch_exceptions=False)
    assert "0 %" in padded.stdout


def test_a_preview_needs_no_weights(class_folders: Callable[..., Path], tmp_path: Path) -> None:
    arguments = [str(class_folders(per_class=1)), "--out", str(tmp_path / "a.png"), "--backbone", "resnet18"]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0


def test_a_preview_that_cannot_be_made_says_why(class_folders: Callable[..., Path], tmp_path: Path) -> None:
    folder = str(class_folders(per_class=1))
    for arguments, words in (
        (["--augmentation", "standart"], "'standard'"),
        (["--fit-mode", "stretch"], "squash"),
        (["--out", str(tmp_path / "pictures")], "--out"),
    ):
        with pytest.raises(HeadstartError, match=words):
            CliRunner().invoke(command, [folder, "--image-size", "48", *arguments], catch_exceptions=False)
