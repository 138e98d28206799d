"""`report.html` in a real browser, and the commands that write one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import asked_of_others, open_page

from headstart.classifier import ImageClassifier
from headstart.cli import main

HOSTILE = "b\"><img src=x onerror=document.title='bad'>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> Path:
    """A model of two classes that no one can tell apart, one with a hostile name, so that it makes mistakes."""
    root = tmp_path_factory.mktemp("report")
    for number in range(60):
        name = HOSTILE if number % 2 else "a"
        make_picture(root / "data" / name / f"{number}.jpg", "dots", seed=number)
    ImageClassifier(method="frozen", image_size=64, test_size=0.5).fit(root / "data", out=root / "model")
    return root / "model"


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, model: Path) -> Iterator[Any]:
    """The report, open; whatever it asks for or complains about fails the test."""
    width, scheme = request.param
    page = open_page(browser, (model / "report.html").as_uri(), width=width, color_scheme=scheme)
    yield page
    assert asked_of_others(page) == page.wrong == []
    page.close()


def visible(page: Any) -> list[str]:
    """The cells of the pictures that are shown."""
    return [one.get_attribute("data-cell") for one in page.locator("#gallery > figure:visible").all()]


def test_the_page_opens_without_errors_or_requests_and_fits_the_screen(page: Any) -> None:
    assert page.title() == "data: report"  # no name became a script
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("svg").count() == 2
    broken = "images => images.filter(image => !image.naturalWidth).length"
    page.evaluate("Promise.all([...document.images].map(image => image.decode().catch(() => 0)))")
    assert page.locator("img").evaluate_all(broken) == 0


def test_first_the_mistakes_are_shown_and_a_cell_shows_the_pictures_behind_it(page: Any, model: Path) -> None:
    confusion = json.loads((model / "model.json").read_text())["test"]["confusion"]
    assert set(visible(page)) == {f"{i}-{1 - i}" for i in (0, 1) if confusion[i][1 - i]}
    for i in (0, 1):
        for j in (0, 1):
            if not confusion[i][j]:
                continue
            cell = page.locator(f'button[data-cell="{i}-{j}"]')
            cell.click()
            assert visible(page) == [f"{i}-{j}"] * confusion[i][j]
            assert cell.get_attribute("aria-pressed") == "true"
            assert page.locator('button[aria-pressed="true"]').count() == 1
            assert page.locator("#caption").inner_text().endswith(f": {confusion[i][j]}")
    page.locator("#all").click()
    assert "0-0" not in visible(page)
    assert page.locator('button[aria-pressed="true"]').count() == 0


def test_the_matrix_works_by_keyboard(page: Any, model: Path) -> None:
    confusion = json.loads((model / "model.json").read_text())["test"]["confusion"]
    assert min(map(min, confusion)) > 0  # no cell is empty, so all can be reached
    first = set(visible(page))
    page.locator('button[data-cell="0-0"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert set(visible(page)) == {"1-1"}
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    assert set(visible(page)) == {"1-0"}
    page.keyboard.press("Escape")
    assert set(visible(page)) == first


def test_with_several_labels_a_cell_shows_what_was_missed_wrongly_given_or_found(
    browser: Any, shapes: Path, tmp_path: Path
) -> None:
    rows = (shapes / "lists.csv").read_text().splitlines()
    sites = [f"{shapes / row},{'new' if number % 3 else 'old'}" for number, row in enumerate(rows[1:])]
    (tmp_path / "sites.csv").write_text("\n".join([f"{rows[0]},site", *sites]) + "\n")
    settings = {"output": "multilabel", "image_size": 32, "method": "frozen", "test_size": 0.4}  # too small to see all
    ImageClassifier(**settings).fit(tmp_path / "sites.csv", out=tmp_path / "model")
    main(["evaluate", str(tmp_path / "model"), str(tmp_path / "sites.csv"), "--quiet"])
    assert "mean average precision" in (tmp_path / "model-on-sites.html").read_text().split("site: <b>")[0]
    page = open_page(browser, (tmp_path / "model" / "report.html").as_uri(), width=390)
    confusion = json.loads((tmp_path / "model" / "model.json").read_text())["test"]["confusion"]
    assert sum(one[0][1] + one[1][0] for one in confusion) > 0
    for i, ((_, wrong), (missed, found)) in enumerate(confusion):
        for cell, count in ((f"{i}-3", missed), (f"3-{i}", wrong), (f"{i}-{i}", found)):
            if count:
                page.locator(f'button[data-cell="{cell}"]').click()
                assert visible(page) == [cell] * count
    page.keyboard.press("Escape")
    assert all("3" in cell for cell in visible(page))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert asked_of_others(page) == page.wrong == []
    page.close()


@pytest.fixture(scope="module")
def ten_classes(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> Path:
    """The report of a model of ten classes, some with long names."""
    root = tmp_path_factory.mktemp("ten")
    for number in range(200):
        name = f"class number {number % 10} with a rather long name" if number % 3 else str(number % 10)
        make_picture(root / "data" / name / f"{number}.jpg", "dots", seed=number)
    for name in list((root / "data").iterdir())[10:]:
        shutil.rmtree(name)
    ImageClassifier(method="frozen", image_size=32).fit(root / "data", out=root / "model")
    return root / "model" / "report.html"


OVERFLOW = "found => found.map(one => one.scrollWidth - one.clientWidth)"


def test_a_matrix_of_ten_classes_keeps_its_names_in_sight_and_its_columns_alike(
    browser: Any, ten_classes: Path
) -> None:
    for width in (390, 1280):
        page = open_page(browser, ten_classes.as_uri(), width=width)
        frame, row = page.locator(".wide:has(.matrix)"), page.locator(".matrix tbody th").nth(3)
        before = row.bounding_box()["x"]
        frame.evaluate("frame => frame.scrollLeft = 200")
        assert row.bounding_box()["x"] == pytest.approx(before, abs=3)
        assert page.locator(".named").bounding_box()["x"] < width - 60
        assert row.get_attribute("title") == page.locator(".matrix .head").nth(3).get_attribute("title")
        widths = page.locator(".matrix .head").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
        assert len(widths) == 10
        assert max(widths) - min(widths) < 1
        overflow = page.locator(".wide").evaluate_all(OVERFLOW)
        assert overflow[1:] == [0] * (len(overflow) - 1)  # only the matrix may scroll, and only on a phone
        assert (overflow[0] > 0) == (width == 390)
        page.close()


def test_on_paper_no_table_is_cut(browser: Any, ten_classes: Path) -> None:
    page = open_page(browser, ten_classes.as_uri(), width=718)  # A4 without its margins
    page.emulate_media(media="print")
    assert max(page.locator(".wide").evaluate_all(OVERFLOW)) <= 0
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert page.locator(".matrix button").evaluate_all(cut) == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def test_evaluate_writes_a_report_beside_the_model_with_the_slices_of_the_manifest(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "mine")
    lines = [
        f"{path},a,{'north' if number % 2 else 'south'}"
        for number, path in enumerate(sorted((model.parent / "data" / "a").iterdir()))
    ]
    (tmp_path / "sites.csv").write_text("\n".join(["path,label,site", *lines]) + "\n")
    main(["evaluate", str(tmp_path / "mine"), str(tmp_path / "sites.csv"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(tmp_path / "mine-on-sites.html")
    text = Path(said["report"]).read_text()
    assert "site: <b>north</b>" in text
    assert f"{100 * said['test']['accuracy']['value']:.1f}&nbsp;% of 30 pictures named right" in text
    assert f"It has learned from {said['seen_in_training']} of these 30 pictures" in text
    main(["evaluate", str(tmp_path / "mine"), str(tmp_path / "sites.csv"), "--json", "--no-report"])
    assert json.loads(capsys.readouterr().out)["report"] is None


def test_a_page_that_cannot_be_written_is_refused_before_any_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["evaluate", str(model), str(model.parent / "data"), "--report"], ["report", str(model), "--out"]):
        for file, words in (("page.txt", "does not end in .html"), ("none/page.html", "does not exist")):
            with pytest.raises(SystemExit) as stop:
                main([*verb, str(tmp_path / file)])
            assert stop.value.code == 2
            error = capsys.readouterr().err
            assert words in error
            assert "check pictures" not in error


def test_report_says_when_the_folder_has_none_of_the_pictures(
    model: Path, tmp_path: Path, make_picture: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_picture(tmp_path / "other" / "x" / "1.jpg")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(model), str(tmp_path / "other"), "--out", str(tmp_path / "r.html")])
    assert stop.value.code == 2
    assert "has none of the test pictures of model" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_report_without_a_folder_shows_the_figures_and_with_it_the_pictures(model: Path, tmp_path: Path) -> None:
    main(["report", str(model), "--out", str(tmp_path / "r.html")])
    assert "30 pictures are not shown" in (tmp_path / "r.html").read_text()
    main(["report", str(model), str(model.parent / "data"), "--no-heat", "--out", str(tmp_path / "r.html")])
    text = (tmp_path / "r.html").read_text()
    assert text.count('<figure class="picture') > 30  # and the crops
    assert "where the network looked" not in text
