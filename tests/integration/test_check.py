"""`headstart check` as a user meets it, and its page in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import asked_of_others, open_page
from click.testing import CliRunner, Result
from PIL import Image

from headstart.cli.check import command
from headstart.core.errors import SettingError

NASTY = "later <img src=x onerror=document.title='hacked'> & \"quotes\".jpg"


def check(*arguments: object) -> Result:
    done = CliRunner().invoke(command, [*map(str, arguments), "--quiet"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def messy(make_picture: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check") / "messy"
    for kind in ("dots", "stripes"):
        for part, numbers in (("train", range(24)), ("val", range(30, 40))):
            for i in numbers:
                make_picture(root / part / kind / f"{kind}-{i}.jpg", kind, (120, 160), 500 + i)
    shutil.copy(root / "val" / "dots" / "dots-31.jpg", root / "train" / "dots" / "leak.jpg")
    shutil.copy(root / "train" / "dots" / "dots-1.jpg", root / "train" / "dots" / NASTY)
    make_picture(root / "train" / "dots" / "wrong.jpg", "stripes", (120, 160), 777)
    Image.new("RGB", (160, 120), "black").save(root / "train" / "stripes" / "black.png")
    (root / "train" / "stripes" / "broken.jpg").write_bytes(b"broken")
    return root


@pytest.fixture(scope="module")
def written(messy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("written")
    before = {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()}
    done = check(messy, "--html", folder / "check.html", "--write-manifest", folder / "clean.csv", "--json")
    assert {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()} == before
    return {"json": json.loads(done.stdout), "page": folder / "check.html", "manifest": folder / "clean.csv"}


def test_json_has_what_was_found_with_paths_and_reasons(written: dict[str, Any], messy: Path) -> None:
    values = written["json"]
    assert [Path(one["path"]).name for one in values["findings"]["leaks"]] == ["leak.jpg"]
    (broken,) = values["findings"]["unreadable"]
    assert (broken["path"], broken["label"], broken["split"]) == (
        str(messy / "train" / "stripes" / "broken.jpg"),
        "stripes",
        "train",
    )
    assert "not a picture" in broken["reason"]
    assert [Path(one["path"]).name for one in values["findings"]["duplicates"]] == [NASTY]
    assert values["leakage"]["touched"] == 1
    assert values["backbone"] == "efficientnet_lite0"
    assert values["counts"]["test"] == 20
    (manifest,) = [values["manifest"]]
    assert manifest == {"file": str(written["manifest"]), "kept": 70, "left_out": 3, "tested": 0, "split": False}


def test_the_table_tells_kinds_names_and_what_to_do(messy: Path) -> None:
    text = check(messy, "--quick").stdout
    assert "leak.jpg" in text
    assert "identical to val/dots/dots-31.jpg" in text
    assert "Not found:" in text
    assert "--leave-out unreadable,leaks,duplicates\n" in text
    assert "add to --leave-out what you agree to: dark, plain." in text
    assert "likely wrong" not in text


def test_no_name_is_broken_where_there_is_no_window(
    make_picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = f"{'a name that is longer than a window is wide ' * 3}.jpg"
    for kind in ("dots", "stripes"):
        for i in range(4):
            make_picture(tmp_path / kind / f"{i}.jpg", kind, seed=i)
    shutil.copy(tmp_path / "dots" / "1.jpg", tmp_path / "dots" / name)
    (line,) = [line for line in check(tmp_path, "--quick").stdout.splitlines() if line.startswith("duplicates")]
    assert f"dots/{name}" in line
    assert line.rstrip().endswith("which stays")


@pytest.mark.parametrize("kinds", ["all", "labels, all"])
def test_all_with_quick_leaves_out_all_that_was_looked_for(kinds: str, messy: Path, tmp_path: Path) -> None:
    text = check(messy, "--quick", "--write-manifest", tmp_path / "clean.csv", "--leave-out", kinds).stdout
    assert "clean.csv: 69 pictures; 4 left out" in text.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--leave-out", "everything"], "unknown kind of finding 'everything'"),
        (["--html", "page.txt"], "does not end in .html"),
        (["--write-manifest", "nowhere/clean.csv"], "does not exist"),
        (["--quick", "--leave-out", "labels", "--write-manifest", "clean.csv"], "was not looked for"),
    ],
)
def test_a_wrong_option_is_told_before_or_without_writing(
    arguments: list[str], text: str, messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=text):
        check(messy, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_opens_without_errors_or_requests_and_fits_the_screen(
    browser: Any, written: dict[str, Any], width: int, scheme: str
) -> None:
    page = open_page(browser, written["page"].as_uri(), width=width, color_scheme=scheme)
    assert asked_of_others(page) == page.wrong == []
    assert page.title() == "messy: what may be the matter"  # no name became a script
    assert page.locator("section#duplicates .path").inner_text() == f"train/dots/{NASTY}"
    # A picture off the screen is not loaded until it is wanted.
    decoded = "async image => { image.loading = 'eager'; await image.decode(); return image.naturalWidth; }"
    assert page.locator("section#leaks img").first.evaluate(decoded) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
