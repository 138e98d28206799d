"""Every command and every Python line of README, CONTRIBUTING and docs/ runs as it stands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import markdown_runner as runner
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = runner.pages(REPOSITORY)
REAL = ("data/hymenoptera", "data/catdog")


@pytest.fixture
def reader_folder(
    tmp_path: Path, page: Path, request: pytest.FixtureRequest, make_picture: Callable[..., Path]
) -> Path:
    """What a reader of the page has: `data/hymenoptera`, `data/catdog`, `data/digits` (300 pictures) and `cat.jpg`."""
    folder = tmp_path / "reader"
    (folder / "data").mkdir(parents=True)
    text = "\n".join(block.text for block in runner.blocks(page) if block.excuse is None)
    if "data/digits" in text:
        from headstart.learn.sample import write_digits

        write_digits(folder / "data" / "digits", limit=300)
    if "cat.jpg" in text:
        make_picture(folder / "cat.jpg", seed=1)
    if any(name in text for name in REAL):
        shared = request.getfixturevalue("shared_data")  # skips where the pictures are absent
        for name in REAL:
            (folder / name).symlink_to(shared / Path(name).name, target_is_directory=True)
        shutil.copyfile(min((shared / "catdog" / "cat").glob("*.jpg")), folder / "cat.jpg")
    return folder


# Pages whose blocks train VGG16 and more: minutes of a small machine.
SLOW_PAGES = {"comparing.md", "explaining.md", "exports.md", "fine-tuning.md", "multi-label.md", "tutorials.md"}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW_PAGES else ()) for page in PAGES],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_the_blocks_of_a_page_run(page: Path, reader_folder: Path) -> None:
    failure = None
    try:
        runner.run_page(page, reader_folder)
    except runner.BlockError as error:
        failure = str(error)
    if failure is not None:
        pytest.fail(failure, pytrace=False)


def test_blocks_that_are_not_run_are_few_and_name_make_targets_that_exist(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    excused = [block for page in PAGES for block in runner.blocks(page) if block.excuse is not None]
    listing = [f"{block.where} ({block.language}): {block.excuse}" for block in excused]
    record_property("blocks_not_run", listing)
    with capsys.disabled():
        print(f"\n{len(excused)} documentation block(s) not run" + "".join(f"\n  {line}" for line in listing))
    wrong = [
        f"{block.where}: {command}"
        for block in excused
        if block.language != "python"
        for command in runner.unknown_make_targets(block, REPOSITORY)
    ]
    assert wrong == []


def test_the_read_me_and_the_contributor_page_are_there() -> None:
    assert {"README.md", "CONTRIBUTING.md"} <= {page.name for page in PAGES}
