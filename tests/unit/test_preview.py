"""The sheet of what the network sees, and the warning about pictures that the crop does not suit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from headstart.cli.preview import command
from headstart.core import pictures as sources
from headstart.core.digests import of_picture
from headstart.core.errors import DataError, HeadstartError, ImageError, SettingError
from headstart.core.preprocessing import Preprocessing
from headstart.learn.audit import Record
from headstart.learn.augment import Augmentation, make_augmentation
from headstart.learn.classifier import ImageClassifier
from headstart.learn.features.extract import FeatureSettings, see
from headstart.learn.preview import (
    Chosen,
    choose_pictures,
    crop_warning,
    draw_sheet,
    look,
    look_at_all,
    preview,
    remarks,
)
from headstart.learn.recipes import load_recipe
from headstart.learn.several import SeveralLabels

SMALL = Preprocessing(image_size=(64, 64))


def record(width: int, height: int, name: str = "a.jpg") -> Record:
    return Record(f"/data/{name}", "0" * 32, 0, width, height, "JPEG")


def shown(path: Path, preprocessing: Preprocessing = SMALL, augmentation: Augmentation | None = None, views: int = 1):
    return look(Chosen(path, path.name), preprocessing, augmentation or Augmentation(), views, seed=0)


def previewed(*arguments: object) -> dict[str, Any]:
    """Return what the command tells of a sheet as JSON, and what it says beside as `stderr`."""
    done = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return {**json.loads(done.stdout), "stderr": done.stderr}


def drawn_with(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[str, Preprocessing, Augmentation, int]:
    """Return the subtitle of a sheet, and what its pictures were looked at with."""
    used: list[Any] = []

    def watched_look(chosen, preprocessing, augmentation, views, seed):
        used.extend([preprocessing, augmentation, views])
        return look_at_all(chosen, preprocessing, augmentation, views, seed)

    def watched_draw(seen, title, subtitle, notes=()):
        used.insert(0, subtitle)
        return draw_sheet(seen, title, subtitle, notes)

    monkeypatch.setattr("headstart.learn.preview.look_at_all", watched_look)
    monkeypatch.setattr("headstart.learn.preview.draw_sheet", watched_draw)
    assert CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False).exit_code == 0
    subtitle, preprocessing, augmentation, views = used
    return subtitle, preprocessing, augmentation, views


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
    seen = [look(Chosen(path, name, "蜂" * 90), SMALL, Augmentation(), 2, 0) for name in names]
    sheet = draw_sheet(seen, "title" * 100, "§" * 300, ["a sentence " * 40])
    right = np.asarray(sheet)[:, -36:]
    assert (right == 255).all()  # the margin stays empty


def test_pictures_are_spread_over_the_classes(class_folders: Callable[..., Path]) -> None:
    folder = class_folders(per_class=10)
    chosen = choose_pictures(folder, 4)
    assert [one.path.parent.name for one in chosen] == ["dots", "dots", "stripes", "stripes"]
    assert [one.name for one in chosen[:2]] == ["dots/dots-000.jpg", "dots/dots-006.jpg"]
    assert len(choose_pictures(folder, 100)) == 20
    assert [one.name for one in choose_pictures(chosen[0].path, 5)] == ["dots-000.jpg"]


def test_pictures_of_a_manifest_are_spread_over_its_labels_in_whatever_order(
    class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    folder = class_folders(per_class=10)
    files = sorted(folder.rglob("*.jpg"), key=lambda path: path.name[-5:])
    lines = [f"pictures/{path.parent.name}/{path.name},{path.parent.name} 1" for path in files]
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(["path,label", *lines]))
    chosen = choose_pictures(manifest, 4)
    assert [one.label for one in chosen] == ["dots 1", "dots 1", "stripes 1", "stripes 1"]
    assert chosen[0] == Chosen(folder / "dots" / "dots-000.jpg", "pictures/dots/dots-000.jpg", "dots 1")
    parquet = tmp_path / "elsewhere" / "list.parquet"
    parquet.parent.mkdir()
    pd.DataFrame({"path": [str(path) for path in files], "label": "a"}).to_parquet(parquet)
    assert choose_pictures(parquet, 1)[0].name == str(folder / "dots" / "dots-000.jpg")


def test_pictures_with_several_labels_are_shown_with_them(shapes: Path, tmp_path: Path) -> None:
    as_columns = choose_pictures(shapes / "columns.csv", 12, SeveralLabels())
    as_lists = choose_pictures(shapes / "lists.csv", 12, SeveralLabels())
    assert as_columns == as_lists
    assert {"no label", "circle"} < {one.label for one in as_columns}
    assert any(";" in one.label for one in as_columns)
    out = ("--out", tmp_path / "a.png", "--image-size", 48, "--pictures", 12)
    told = previewed(shapes / "columns.csv", "--output", "multilabel", *out)
    assert [row["label"] for row in told["pictures"]] == [one.label for one in as_columns]
    named = previewed(shapes / "columns.csv", "--output", "multilabel", "--labels", "circle,square", *out)
    assert not any("triangle" in row["label"] for row in named["pictures"])
    with pytest.raises(DataError, match="--output multilabel"):
        CliRunner().invoke(command, [str(shapes / "columns.csv")], catch_exceptions=False)


def test_a_broken_picture_is_named_and_the_others_are_drawn(class_folders: Callable[..., Path], tmp_path: Path) -> None:
    folder = class_folders(per_class=2)
    (folder / "dots" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    told = previewed(folder, "--out", tmp_path / "a.png", "--image-size", 48)
    assert [row["path"] for row in told["pictures"]] == [
        "dots/dots-000.jpg", "dots/dots-001.jpg", "stripes/stripes-000.jpg", "stripes/stripes-001.jpg",
    ]  # fmt: skip
    (left_out,) = told["left_out"]
    assert left_out["path"] == "dots/broken.jpg"
    assert f"headstart: dots/broken.jpg: {left_out['reason']}\n" == told["stderr"]
    assert "1 picture cannot be read and is left out, as in `fit`." in told["notes"]
    with Image.open(tmp_path / "a.png") as five, Image.open(sheet_of(folder, 4, tmp_path)) as four:
        assert five.width == four.width


def sheet_of(folder: Path, pictures: int, tmp_path: Path) -> Path:
    previewed(folder, "--out", tmp_path / "b.png", "--image-size", 48, "--pictures", pictures)
    return tmp_path / "b.png"


def test_where_nothing_can_be_drawn_it_is_an_error(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff broken")
    chosen = [Chosen(tmp_path / name, name) for name in ("a.jpg", "b.jpg")]
    with pytest.raises(ImageError, match=r"^a\.jpg: .*None of the 2 that were chosen can be read; `headstart check`"):
        look_at_all(chosen, SMALL, Augmentation(), 1, 0)
    with pytest.raises(ImageError, match=r"^b\.jpg: [^`]*$"):
        look_at_all(chosen[1:], SMALL, Augmentation(), 1, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        choose_pictures(tmp_path / "empty", 3)


def test_views_that_nobody_asked_for_are_called_an_example(
    class_folders: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(per_class=1)
    basic = (folder, "--out", tmp_path / "a.png", "--image-size", 48)
    sentence = "The augmented views are an example: `fit` augments so only with --augmentation standard."
    done = CliRunner().invoke(command, list(map(str, basic)), catch_exceptions=False)
    assert sentence in done.stdout
    assert previewed(*basic)["notes"] == [sentence]
    for asked in (("--augmentation", "standard"), ("--recipe", "vgg16-extractor"), ("--views", 1)):
        assert previewed(*basic, *asked)["notes"] == []
    subtitle, _, augmentation, views = drawn_with(monkeypatch, *basic)
    assert "augmentation standard" in subtitle
    assert (augmentation, views) == (make_augmentation("standard"), 5)


def test_the_sentences_stand_on_the_sheet_and_keep_off_the_pictures(
    make_picture: Callable[..., Path], tmp_path: Path
) -> None:
    seen = [shown(make_picture(tmp_path / "a.jpg"), views=2)]
    plain, told, both = (
        np.asarray(draw_sheet(seen, "title", "subtitle", notes)) for notes in ((), ["one"], ["one"] * 2)
    )
    line = len(told) - len(plain)
    assert line == len(both) - len(told) > 0
    np.testing.assert_array_equal(told[-220:], plain[-220:])  # the pictures are lower by a line
    dark = [int((sheet[:140] < 60).all(axis=2).sum()) for sheet in (plain, told, both)]
    assert dark[0] < dark[1] < dark[2]


def test_a_recipe_gives_what_it_sees_and_options_win(
    class_folders: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    basic = (class_folders(per_class=1), "--out", tmp_path / "a.png", "--recipe", "vgg16-frozen")
    table = load_recipe("vgg16-frozen").parameters["augmentation"]
    subtitle, preprocessing, augmentation, views = drawn_with(monkeypatch, *basic)
    assert (preprocessing.image_size, preprocessing.fit, views) == ((150, 150), "squash", 4)
    assert augmentation == Augmentation(**table)
    assert "vgg16.keras, 150 × 150 px, squash; augmentation rotation 15, shift 0.1" in subtitle
    config = tmp_path / "run.toml"
    config.write_text('image_size = 64\naugmentation = "flip"\nepochs = 3\nseed = 7\n')
    subtitle, preprocessing, augmentation, views = drawn_with(
        monkeypatch, *basic, "--config", config, "--fit-mode", "pad", "--views", 3
    )
    assert (preprocessing.image_size, preprocessing.fit, views) == ((64, 64), "pad", 3)
    assert augmentation == Augmentation(horizontal_flip=0.5)
    assert "seed 7" in subtitle
    *_, augmentation, views = drawn_with(monkeypatch, *basic, "--augmentation", "none")
    assert (augmentation, views) == (Augmentation(), 1)  # all views would be the same
    config.write_text("views = 0")
    with pytest.raises(SettingError, match="views is 0: give a whole number"):
        drawn_with(monkeypatch, *basic, "--config", config)


def test_a_sheet_in_python_is_of_what_a_classifier_sees(class_folders: Callable[..., Path]) -> None:
    folder = class_folders(per_class=2)
    sheet = preview(folder, ImageClassifier(augmentation="flip", image_size=[48, 64], views=3, seed=5), pictures=3)
    assert [len(one.views) for one in sheet.seen] == [3, 3, 3]
    assert (sheet.left_out, sheet.notes) == ([], [])
    for one in sheet.seen:
        plain, *others = one.views
        assert plain.shape == (48, 64, 3)
        assert all((other == plain).all() or (other == plain[:, ::-1]).all() for other in others)
    assert len(preview(folder, ImageClassifier(views=3, image_size=48)).seen[0].views) == 1
    with pytest.raises(SettingError, match="seed is 'x'"):
        preview(folder, ImageClassifier(seed="x"))  # type: ignore[arg-type]


def test_where_the_crop_loses_much_the_cure_is_named(class_folders: Callable[..., Path], tmp_path: Path) -> None:
    folder = class_folders(per_class=1, size=(60, 240))
    basic = (folder, "--out", tmp_path / "a.png", "--image-size", 48, "--augmentation", "none")
    cure = "2 of 2 pictures lose over 60 % of the area: --fit-mode pad shows the whole picture, here and in `fit`."
    assert previewed(*basic)["notes"] == [cure]
    assert previewed(*basic, "--fit-mode", "pad")["notes"] == []
    wide, ordinary = (
        shown(next(folder.rglob("*.jpg"))),
        shown(class_folders(1, root=tmp_path / "b") / "dots/dots-000.jpg"),
    )
    assert remarks([wide, ordinary], 2, None) == [
        cure.replace("2 of 2 pictures lose", "1 of 2 pictures loses"),
        "2 pictures cannot be read and are left out, as in `fit`.",
    ]


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
        (["--recipe", "vgg-frozen"], "'vgg16-frozen'"),
        (["--config", str(tmp_path / "none.toml")], "cannot be used as a config"),
        (["--fit-mode", "stretch"], "squash"),
        (["--out", str(tmp_path / "pictures")], "--out"),
    ):
        with pytest.raises(HeadstartError, match=words):
            CliRunner().invoke(command, [folder, "--image-size", "48", *arguments], catch_exceptions=False)


def test_no_pictures_at_all_are_refused(class_folders: Callable[..., Path]) -> None:
    folder = class_folders(per_class=1)
    with pytest.raises(SettingError, match="pictures is 0: give a whole number from 1"):
        choose_pictures(folder, 0)
