"""The page of the server in a real browser: every picture gets an answer or a sentence, and none is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browsing import asked_of_others, open_page
from odd_pictures import encoded
from PIL import Image
from serving import serve_command
from tiny_models import write_model

from headstart.core import artifact, images
from headstart.core.preprocessing import Preprocessing

MEGABYTE = 10**6
TREES = (
    "ash",
    "birch",
    "cedar",
    "a class whose name is as long as some people make them",
    "elm",
    "fir",
    "hazel",
    "oak",
)
# The browser itself writes these; they are no errors of the page.
OF_THE_BROWSER = "Failed to load resource"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, pictures: list[Path]) -> tuple[Path, ...]:
    """Three models; the third knows the first picture only, and is in doubt about everything."""
    folder = tmp_path_factory.mktemp("models")
    insects, birds = write_model(folder / "insects"), write_model(folder / "birds", classes=("crow", "wren"), seed=1)
    known = Preprocessing((32, 32))(images.decode(pictures[0].read_bytes()))
    trees = write_model(folder / "trees", classes=TREES, seed=2, known=known[None])
    novelties = [one.novelty for one in artifact.load(trees).stream(pictures)]
    description = json.loads((trees / "model.json").read_text())
    description["confidence"] = {
        "conformal": {"coverage": 0.9, "threshold": 1e-12},
        "novelty": {"threshold": sorted(novelties)[1] / 2},
    }
    (trees / "model.json").write_text(json.dumps(description))
    return insects, birds, trees


@pytest.fixture(scope="module")
def address(models: tuple[Path, ...]) -> Iterator[str]:
    """A server of this module, stopped at its end; a body of more than 2 MB is too large for it."""
    with serve_command(*models, "--max-body", "2M", "--no-access-log") as (_, address):
        yield address


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_picture: Callable[..., Path]) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return [make_picture(folder / f"{kind}.jpg", kind, seed=3) for kind in ("dots", "stripes", "checks")]


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; when the test ends, nothing may have gone wrong in it or been asked of another host."""
    opened = []

    def make(url: str = address, **options: Any) -> Any:
        page = open_page(browser, url, **{"height": 900, **options})
        page.set_default_timeout(20_000)
        opened.append(page)
        return page

    yield make
    for page in opened:
        assert asked_of_others(page) == []
        assert [text for text in page.wrong if OF_THE_BROWSER not in text] == []
        page.close()


def wait(page: Any, *states: str, count: int) -> list[Any]:
    """Return the cards when so many have one of these states."""
    from playwright.sync_api import expect

    found = page.locator(", ".join(f".card[data-state={state}]" for state in states))
    expect(found).to_have_count(count, timeout=20_000)
    return found.all()


def reply_in_turn(page: Any, address: str, replies: list[dict[str, Any]]) -> list[str]:
    """Give a page these replies, then the server's own; return the list to which each request's address is added."""
    asked: list[str] = []

    def reply(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) > len(replies):
            route.continue_()
        else:
            route.fulfill(**replies[len(asked) - 1])

    page.route(address, reply)
    return asked


def card(page: Any, name: str) -> Any:
    return page.locator(".card", has=page.get_by_text(name, exact=True))


def text(one: Any, part: str) -> str:
    return str(one.locator(f".{part}").inner_text())


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_several_pictures_are_answered_as_the_predictor_does_and_fit_the_screen(
    visit: Callable[..., Any], models: tuple[Path, ...], pictures: list[Path], width: int, scheme: str
) -> None:
    page = visit(width=width, height=844, color_scheme=scheme)
    page.set_input_files("#files", pictures)
    wait(page, "done", count=3)
    predictor = artifact.load(models[0])
    for path, row in zip(pictures, predictor.predict_proba(pictures), strict=True):
        one = card(page, path.name)
        assert text(one, "verdict") == predictor.classes[int(row.argmax())]
        shown = [line.split("\n") for line in one.locator(".bars li").all_inner_texts()]
        told = dict(zip(predictor.classes, row, strict=True))
        assert [name for name, *_ in shown] == sorted(told, key=lambda name: -told[name])
        for name, percent in shown:
            value = float(percent.strip("<> %\u00a0")) / 100
            assert value == pytest.approx(told[name], abs=0.00101)
        assert one.locator(".own").evaluate("image => image.complete && image.naturalWidth") == 128
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.wrong == []


def test_a_wrong_and_a_huge_file_are_told_and_the_others_are_answered(
    visit: Callable[..., Any], models: tuple[Path, ...], pictures: list[Path], tmp_path: Path
) -> None:
    wrong, huge = tmp_path / "notes.txt", tmp_path / "huge.png"
    wrong.write_text("no picture")
    huge.write_bytes(bytes(3 * MEGABYTE))
    page = visit()
    page.set_input_files("#files", [pictures[0], wrong, huge, pictures[1]])
    wait(page, "done", count=2)
    wait(page, "error", count=2)
    (prediction,) = artifact.load(models[0]).stream([wrong.read_bytes()])
    assert text(card(page, "notes.txt"), "why").lower() == prediction.error.lower()
    assert text(card(page, "huge.png"), "why") == "The file has 3 MB, and this server takes at most 2 MB."
    assert not card(page, "notes.txt").locator(".retry").is_visible()  # it would be refused again
    assert page.locator("#count").inner_text() == "4 pictures · 2 without an answer"


def test_photographs_are_sent_as_they_are(
    visit: Callable[..., Any], models: tuple[Path, ...], hymenoptera: Path
) -> None:
    photographs = sorted((hymenoptera / "val" / "bees").iterdir())[:9]
    page = visit()
    page.set_input_files("#files", photographs)
    cards = wait(page, "done", count=9)
    predictor = artifact.load(models[0])
    expected = predictor.predict_proba(photographs)
    assert [text(one, "name") for one in cards] == [path.name for path in photographs]
    assert [text(one, "verdict") for one in cards] == [predictor.classes[int(row.argmax())] for row in expected]
    shown = [float(one.locator(".share").first.inner_text().strip("<> %\u00a0")) / 100 for one in cards]
    assert shown == pytest.approx(expected.max(axis=1).tolist(), abs=0.00101)


def test_a_limit_that_the_page_cannot_know_and_a_server_that_is_silent_cost_one_picture_only(
    visit: Callable[..., Any], pictures: list[Path], tmp_path: Path
) -> None:
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(3 * MEGABYTE))
    page = visit()
    known = {"models": [{"name": "insects", "classes": ["ant", "bee", "wasp"]}], "limits": {"seconds": -14.5}}
    page.route("**/models", lambda route: route.fulfill(json=known))
    page.route("**/predict?*", lambda route: None)  # never a reply
    page.reload()
    page.set_input_files("#files", pictures[0])
    (one,) = wait(page, "error", count=1)
    assert text(one, "why") == "There was no answer within 0.5 s."
    page.unroute("**/predict?*")
    known["limits"]["seconds"] = 30
    page.reload()
    page.set_input_files("#files", [huge, pictures[0]])
    wait(page, "done", count=1)
    wait(page, "error", count=1)
    assert "too large" in text(card(page, "huge.png"), "why")  # told by the server, or by the cut connection


def test_the_camera_takes_pictures_that_are_answered(visit: Callable[..., Any]) -> None:
    page = visit()
    page.click("#camera")
    page.locator("#shoot video").evaluate("video => video.videoWidth || new Promise(go => video.onplaying = go)")
    for _ in range(2):
        page.click("#take")
    wait(page, "done", "error", count=2)
    wait(page, "done", count=2)
    stopped = "video => { window.track = video.srcObject.getTracks()[0] }"
    page.locator("#shoot video").evaluate(stopped)
    page.keyboard.press("Escape")
    assert not page.locator("#shoot").is_visible()
    for _ in range(50):  # the dialog tells that it is closed a little later
        if page.evaluate("window.track.readyState") == "ended":
            break
        page.wait_for_timeout(100)
    assert page.evaluate("window.track.readyState") == "ended"
    assert text(page.locator(".card").first, "name") == "camera 2.jpg"


def test_a_pasted_picture_is_answered_and_pasted_words_are_told(
    visit: Callable[..., Any], pictures: list[Path]
) -> None:
    paste = """data => {
      const carried = new DataTransfer();
      if (data.bytes) carried.items.add(new File([new Uint8Array(data.bytes)], "image.png", {type: "image/png"}));
      else carried.setData("text/plain", data.text);
      document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: carried, bubbles: true}));
    }"""
    page = visit()
    page.evaluate(paste, {"text": "words"})
    assert "no picture in the clipboard" in page.locator("#notice").inner_text()
    page.evaluate(paste, {"bytes": list(encoded(Image.open(pictures[0]), "PNG"))})
    wait(page, "done", count=1)
    assert page.locator("#notice").inner_text() == ""


def test_dropped_pictures_are_answered(visit: Callable[..., Any], pictures: list[Path]) -> None:
    page = visit()
    carried = page.evaluate_handle(
        """bytes => {
          const carried = new DataTransfer();
          for (const name of ["a.jpg", "b.jpg"]) carried.items.add(new File([new Uint8Array(bytes)], name));
          return carried;
        }""",
        list(pictures[0].read_bytes()),
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": carried})
    assert page.evaluate("document.body.classList.contains('over')")
    page.dispatch_event("main", "drop", {"dataTransfer": carried})
    wait(page, "done", count=2)
    assert not page.evaluate("document.body.classList.contains('over')")


def test_of_a_folder_the_pictures_are_sent_and_the_rest_is_counted(
    visit: Callable[..., Any], pictures: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "holiday"
    (folder / "day 2").mkdir(parents=True)
    (folder / ".trash").mkdir()
    for name in ("10.JPG", "9.jpg", "day 2/1.jpeg", "._9.jpg", ".trash/old.jpg"):
        (folder / name).write_bytes(pictures[0].read_bytes())
    for name in (".DS_Store", "notes.txt", "day 2/list.csv"):
        (folder / name).write_text("no picture")
    page = visit()
    page.set_input_files("#folder", folder)
    cards = wait(page, "done", count=3)
    assert [text(one, "name") for one in cards] == ["9.jpg", "10.JPG", "1.jpeg"]
    assert page.locator("#notice").inner_text() == "2 files are no pictures and were left out."
    assert page.locator(".card").count() == 3


def test_of_a_dropped_folder_the_pictures_are_sent(visit: Callable[..., Any], pictures: list[Path]) -> None:
    page = visit()
    page.evaluate(
        """bytes => {
          const file = name => ({name, isFile: true, file: take => take(new File([new Uint8Array(bytes)], name))});
          const folder = (name, inside) => ({name, isDirectory: true, createReader() {
            const left = [inside, []];
            return {readEntries: take => take(left.shift())};
          }});
          const hidden = folder(".git", [file("b.jpg")]);
          const root = folder("holiday", [file("a.jpg"), file(".DS_Store"), file("notes.txt"), hidden]);
          const drop = new Event("drop");
          drop.dataTransfer = {items: [{webkitGetAsEntry: () => root}], files: []};
          document.dispatchEvent(drop);
          const empty = new Event("drop");
          empty.dataTransfer = {items: [{webkitGetAsEntry: () => folder("empty", [])}], files: []};
          window.again = () => document.dispatchEvent(empty);
        }""",
        list(pictures[0].read_bytes()),
    )
    (one,) = wait(page, "done", count=1)
    assert text(one, "name") == "a.jpg"
    assert page.locator("#notice").inner_text() == "1 file is no picture and was left out."
    page.evaluate("window.again()")
    page.wait_for_selector("text=There are no pictures in that folder.")


def test_pictures_far_below_the_screen_are_not_decoded_before_they_are_near_it(
    visit: Callable[..., Any], pictures: list[Path]
) -> None:
    from playwright.sync_api import expect

    page = visit()
    page.set_input_files("#files", pictures * 40)
    wait(page, "done", count=120)
    decoded = "images => images.map(image => image.complete && image.naturalWidth > 0)"
    near = page.locator(".own").evaluate_all(decoded)
    assert near[0]
    assert not near[-1]
    page.locator(".card").last.scroll_into_view_if_needed()
    expect(page.locator(".own").last).to_have_js_property("naturalWidth", 128)


def test_a_server_that_does_not_tell_its_models_is_asked_again_and_the_pictures_wait(
    visit: Callable[..., Any], pictures: list[Path]
) -> None:
    replies = [
        {"status": 503, "json": {"error": "the server is starting."}},
        {"status": 403, "json": {"error": "another host's name is used."}},
        {"status": 200, "json": {"hello": "proxy"}},
    ]
    page = visit()
    reply_in_turn(page, "**/models", replies)
    page.reload()
    page.set_input_files("#files", pictures[0])
    for sentence in ("The server is starting.", "Another host's name is used.", "The server does not tell"):
        page.wait_for_selector(f"#gone:visible >> text={sentence}")
        wait(page, "waiting", count=1)
        page.dispatch_event("#gone button", "click")
    wait(page, "done", count=1)
    assert not page.locator("#gone").is_visible()


@pytest.mark.parametrize(
    ("evaluated_by", "on"),
    [
        ("test pictures", "24 test pictures"),
        ("repeated cross-validation", "24 pictures, by repeated cross-validation"),
        ("pictures not learned from", "24 pictures not learned from"),
    ],
)
def test_the_figure_is_told_with_what_it_was_measured_on(
    visit: Callable[..., Any], pictures: list[Path], evaluated_by: str, on: str
) -> None:
    accuracy = {"value": 0.9, "low": 0.8, "high": 0.95}
    conformal = {"threshold": 0.1, "test_coverage": {"value": 0.875, "low": 0.7, "high": 0.96}}
    one = {"name": "small", "classes": ["a", "b"], "evaluated_by": evaluated_by}
    known = {"models": [{**one, "test": {"n": 24, "accuracy": accuracy}, "confidence": {"conformal": conformal}}]}
    result = {"path": "x", "label": "a", "probabilities": {"a": 0.6, "b": 0.4}, "set": ["a", "b"]}
    page = visit()
    page.route("**/models", lambda route: route.fulfill(json=known))
    page.route("**/predict?*", lambda route: route.fulfill(json={"model": "small", "results": [result]}))
    page.reload()
    page.wait_for_selector("#about:not(:empty)")
    told = page.locator("#about").inner_text().replace("\u00a0", " ")
    assert f"It was right on 90 % of {on} (95 % interval: 80 % to 95 %)." in told
    page.set_input_files("#files", pictures[0])
    (found,) = wait(page, "done", count=1)
    assert f"held the right class of 87.5 % of {on}." in text(found, "why").replace("\u00a0", " ")


def test_another_model_is_asked_about_the_same_pictures(visit: Callable[..., Any], pictures: list[Path]) -> None:
    page = visit()
    page.set_input_files("#files", pictures)
    wait(page, "done", count=3)
    page.get_by_label("Model").select_option("birds")
    page.wait_for_selector(".card[data-state=done] .bars >> text=crow")
    wait(page, "done", count=3)
    assert {text(one, "verdict") for one in page.locator(".card").all()} <= {"crow", "wren"}
    assert "birds tells 2 classes apart: crow, wren" in page.locator("#about").inner_text()


def test_doubt_and_none_of_these_are_said(
    visit: Callable[..., Any], models: tuple[Path, ...], pictures: list[Path]
) -> None:
    page = visit()
    page.get_by_label("Model").select_option("trees")
    page.set_input_files("#files", pictures)
    wait(page, "done", count=3)
    predictor = artifact.load(models[2])
    answers = [predictor.answer(one) for one in predictor.stream(pictures)]
    assert [one.unknown for one in answers] == [False, True, True]
    assert len(answers[0].prediction_set) > 3
    for path, answer in zip(pictures, answers, strict=True):
        one = card(page, path.name)
        assert text(one, "verdict") == ("None of these" if answer.unknown else answer.label)
        assert ("unlike the pictures that the model learned from" in text(one, "why")) == answer.unknown
        assert answer.label in text(one, "why")
        assert one.locator(".bars .in").count() == (0 if answer.unknown else min(5, len(answer.prediction_set)))
    known = card(page, pictures[0].name)
    assert text(known, "why").startswith(
        f"In doubt between {len(answers[0].prediction_set)} classes; {answers[0].label}"
    )
    assert "the right class 90\u00a0% of the time" in text(known, "why")
    known.get_by_role("button", name="Show all 8").click()
    assert known.locator(".bars li").count() == 8


def test_the_heat_map_is_laid_over_the_picture_and_taken_away(visit: Callable[..., Any], pictures: list[Path]) -> None:
    page = visit()
    page.set_input_files("#files", pictures[0])
    (one,) = wait(page, "done", count=1)
    before = [address for address in page.requested if "heat_map" in urlsplit(address).query]
    button = one.get_by_role("button", name="Where it looked")
    button.click()
    one.locator(".heat:visible").wait_for()
    ratio = "image => image.decode().then(() => image.naturalWidth / image.naturalHeight)"
    assert one.locator(".heat").evaluate(ratio) == pytest.approx(one.locator(".own").evaluate(ratio), abs=0.02)
    assert button.get_attribute("aria-pressed") == "true"
    assert before == []  # it takes a second, so it is drawn only when asked for
    button.click()
    assert not one.locator(".heat").is_visible()
    assert button.get_attribute("aria-pressed") == "false"


def test_a_server_that_goes_is_told_and_the_pictures_are_answered_when_it_is_back(
    visit: Callable[..., Any], models: tuple[Path, ...], pictures: list[Path]
) -> None:
    with serve_command(models[0], "--no-access-log") as (process, address):
        page = visit(address)
        page.set_input_files("#files", pictures[0])
        wait(page, "done", count=1)
        process.terminate()
        process.wait(30)
    page.set_input_files("#files", pictures[1:])
    page.wait_for_selector("#gone:visible")
    wait(page, "waiting", count=2)
    page.get_by_role("button", name="Try now").click()
    wait(page, "done", count=1)  # what was answered stays
    with serve_command(models[0], "--no-access-log", "--port", urlsplit(address).port):
        page.dispatch_event("#gone button", "click")  # it may have noticed by itself and hidden the button
        wait(page, "done", count=3)
        assert not page.locator("#gone").is_visible()


def test_a_busy_server_is_asked_again_when_it_says_and_other_failures_can_be_tried_again(
    visit: Callable[..., Any], pictures: list[Path]
) -> None:
    replies = [
        {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": "too many pictures are waiting."}},
        {"status": 504, "json": {"error": "there was no answer within 30 s. Send fewer pictures at once."}},
        {"status": 502, "body": "<h1>Bad Gateway</h1>"},
        {"status": 413, "json": {"error": "the body is too large: at most 9 bytes are read. Send less at once."}},
    ]
    page = visit()
    asked = reply_in_turn(page, "**/predict?*", replies)
    page.set_input_files("#files", pictures[0])
    page.wait_for_selector("text=The server is busy. Asked again in")
    (one,) = wait(page, "error", count=1)
    assert text(one, "why") == "There was no answer within 30 s. Send fewer pictures at once."
    one.locator(".retry").click()
    page.wait_for_selector("text=The server answered 502")
    wait(page, "error", count=1)
    one.locator(".retry").click()
    page.wait_for_selector("text=The body is too large")
    assert not one.locator(".retry").is_visible()
    page.set_input_files("#files", pictures[1])
    wait(page, "done", count=1)
    assert len(asked) == 5


def test_everything_can_be_done_with_the_keyboard(visit: Callable[..., Any], pictures: list[Path]) -> None:
    page = visit()
    page.on("filechooser", lambda chooser: chooser.set_files(pictures))
    page.wait_for_selector("#about:not(:empty)")
    focused = "document.activeElement.id || document.activeElement.className"
    order = []
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert order == ["model", "files", "folder", "camera"]
    page.focus("#files")
    page.keyboard.press("Enter")
    wait(page, "done", count=3)
    page.wait_for_selector("#said:not(:empty)", state="attached")
    assert "dots.jpg: " in page.locator("#said").inner_text() or "3 pictures" in page.locator("#said").inner_text()
    page.focus("#clear")
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.getAttribute('aria-label')") != "Remove dots.jpg":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait(page, "done", count=2)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove stripes.jpg"
    page.focus("#clear")
    page.keyboard.press("Enter")
    wait(page, "done", count=0)
    assert page.evaluate("document.activeElement.id") == "files"


def test_a_key_is_asked_for_where_the_server_wants_one(
    visit: Callable[..., Any], models: tuple[Path, ...], pictures: list[Path]
) -> None:
    with serve_command(models[0], "--no-access-log", HEADSTART_API_KEYS="a-key-of-more-than-16") as (_, address):
        page = visit(address)
        page.set_input_files("#files", pictures[0])
        field = page.get_by_label("API key")
        field.fill("another-key-that-is-wrong")
        field.press("Enter")
        page.wait_for_selector("text=The API key is missing or wrong")
        wait(page, "waiting", count=1)
        field.fill("a-key-of-more-than-16")
        field.press("Enter")
        wait(page, "done", count=1)
        assert not field.is_visible()
        page.reload()
        page.wait_for_selector("#about:not(:empty)")  # it is kept as long as the tab
        assert not field.is_visible()


def test_classes_named_by_numbers_stand_in_the_order_of_their_probabilities(
    visit: Callable[..., Any], pictures: list[Path]
) -> None:
    shares = {"7": 0.9, "constructor": 0.05, "3": 0.02, "1": 0.012, "2": 0.01, "4": 0.008}
    page = visit()
    told = {"model": "insects", "results": [{"path": "x", "label": "7", "probabilities": shares}]}
    page.route("**/predict?*", lambda route: route.fulfill(json=told))
    page.set_input_files("#files", pictures[0])
    (one,) = wait(page, "done", count=1)
    assert one.locator(".bars li > span:first-child").all_inner_texts() == ["7", "constructor", "3", "1", "2"]
