from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.core.errors import DataError, SettingError
from headstart.learn import sample
from headstart.learn.sample import COUNTS, write_digits


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_digits_are_written_into_ten_class_folders(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "some" / "digits")
    assert folder == tmp_path / "some" / "digits"
    assert sorted(path.name for path in folder.iterdir()) == list("0123456789")
    assert tuple(len(list((folder / str(digit)).iterdir())) for digit in range(10)) == COUNTS
    assert sum(COUNTS) == 1797
    assert [path.name for path in tmp_path.joinpath("some").iterdir()] == ["digits"]  # no draft is left


def test_a_picture_shows_the_digit_of_its_class_dark_on_white(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = write_digits(tmp_path / "digits", limit=40)
    for digit in range(10):
        for index in range(4):
            ink = digits.images[np.flatnonzero(digits.target == digit)[index]]
            with Image.open(folder / str(digit) / f"{index:04}.png") as image:
                assert (image.size, image.mode) == ((64, 64), "L")
                seen = np.asarray(image, float)
            margin = np.ones((64, 64), bool)
            margin[8:56, 8:56] = False
            assert (seen[margin] == 255).all()
            # The mean of each 6 x 6 block is close to the pixel it was made from.
            blocks = 16 - seen[8:56, 8:56].reshape(8, 6, 8, 6).mean(axis=(1, 3)) * 16 / 255
            assert np.corrcoef(blocks.ravel(), ink.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(("limit", "counts"), [(10, [1] * 10), (25, [3] * 5 + [2] * 5), (5000, list(COUNTS))])
def test_a_limit_is_spread_evenly_over_the_digits(tmp_path: Path, limit: int, counts: list[int]) -> None:
    folder = write_digits(tmp_path / "digits", limit=limit)
    assert [len(list((folder / str(digit)).iterdir())) for digit in range(10)] == counts


def test_a_limit_below_one_picture_a_digit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="limit is 9: give at least 10"):
        write_digits(tmp_path / "digits", limit=9)
    assert list(tmp_path.iterdir()) == []


def test_two_writings_are_identical_and_the_second_touches_nothing(tmp_path: Path) -> None:
    first = write_digits(tmp_path / "digits", limit=20)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    write_digits(first, limit=20)
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert tree(first) == tree(write_digits(tmp_path / "again", limit=20))


def test_a_complete_folder_needs_no_scikit_learn(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", limit=10)
    code = (
        "import sys; from pathlib import Path; from headstart.learn.sample import write_digits;"
        f"write_digits(Path({str(folder)!r}), limit=10); sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_folder_with_missing_or_other_digits_is_made_whole(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", limit=20)
    (folder / "3" / "0000.png").unlink()
    whole = tree(write_digits(folder, limit=20))
    assert len(whole) == 20
    assert len(tree(write_digits(folder, limit=10))) == 10


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "digits" / "holiday.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"digits holds 'holiday\.jpg', which is no digit picture\. Name a new"):
        write_digits(mine.parent)
    assert tree(tmp_path) == {"digits/holiday.jpg": b"mine"}


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("a file")
    with pytest.raises(DataError, match="digits is a file, where a folder was expected"):
        write_digits(tmp_path / "digits")


def test_an_interruption_leaves_neither_folder_nor_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, names: set[str]) -> None:
        (folder / "0").mkdir()
        (folder / "0" / "0000.png").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(DataError, match=r"the digits cannot be written to .*/file'\. Name a folder you may write"):
        write_digits(tmp_path / "file" / "digits")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_the_folder(tmp_path: Path) -> None:
    assert write_digits(tmp_path / "digits", limit=10).stat().st_mode & 0o777 == 0o755
