"""What every test may ask for: real pictures where there are any, generated ones, and a cache of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

# Threads that wait by spinning steal the cores from each other when several processes run; set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).resolve().parents[1]
KINDS = ("dots", "stripes", "checks")
# Two threads on any machine: sums in another order end in other last digits.
THREADS = 2


@pytest.fixture(scope="session", autouse=True)
def headstart_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No user setting reaches a test, nor a subprocess of one, and no test reaches the network or the user's cache.

    One feature cache serves the whole session, so that the same real pictures are not computed by every test; a test
    of the cache itself asks for `fresh_cache`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HEADSTART_") and name != "HEADSTART_SHARED"]:
            patch.delenv(name)
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("headstart-cache")))
        patch.setenv("HEADSTART_OFFLINE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("COLUMNS", "120")  # what rich prints must not depend on the developer's window
        yield


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    folder = tmp_path / "fresh-cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def fixed_threads() -> None:
    """The same number of threads on every machine, without importing torch for tests that do not."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures: `../shared/data` beside the repository, or `HEADSTART_SHARED`."""
    named = os.environ.get("HEADSTART_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real pictures of {folder}, which is absent; HEADSTART_SHARED names another folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def hymenoptera(shared_data: Path) -> Path:
    """Ants and bees, with train/ and val/ above the class folders."""
    return shared_data / "hymenoptera"


@pytest.fixture(scope="session")
def catdog(shared_data: Path) -> Path:
    """Cats and dogs in two class folders."""
    return shared_data / "catdog"


def draw(kind: str, size: tuple[int, int], seed: int, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    """Return a picture, uint8 `(*size, 3)`, of a texture over soft blobs.

    The texture is the class, and a pretrained network tells the kinds apart at sight; the blobs, the colours, the
    angle and the scale come from the seed, so that no two seeds are near-duplicates.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    blobs = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    rows, columns = np.mgrid[: size[0], : size[1]] / min(size)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.09, 0.14)
    across = (columns * np.cos(angle) + rows * np.sin(angle)) / period
    along = (rows * np.cos(angle) - columns * np.sin(angle)) / period
    if kind == "stripes":
        ink = across % 1 < 0.5
    elif kind == "checks":
        ink = (across % 2 < 1) ^ (along % 2 < 1)
    else:
        ink = (across % 1 - 0.5) ** 2 + (along % 1 - 0.5) ** 2 < 0.1
    ground = np.asarray(blobs, np.float32)
    paint = np.array(colour if colour is not None else rng.integers(0, 256, 3), np.float32)
    return np.where(ink[..., None], 0.35 * ground + 0.65 * paint, ground).round().astype(np.uint8)


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Path]:
    """`make_picture(path, kind="dots", size=(96, 128), seed=0, colour=None)` writes a picture and returns its path.

    The suffix names the format, `size` is `(height, width)`, and the folders above are made.
    """

    def make(
        path: Path,
        kind: str = "dots",
        size: tuple[int, int] = (96, 128),
        seed: int = 0,
        colour: tuple[int, int, int] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(kind, size, seed, colour)).save(path)
        return path

    return make


@pytest.fixture
def class_folders(tmp_path: Path, make_picture: Callable[..., Path]) -> Callable[..., Path]:
    """`class_folders(per_class=8, kinds=KINDS[:2], size=(96, 128), seed=0, root=None)` writes class folders.

    Named after the kinds (`dots`, `stripes`, `checks`), under `root` (else `tmp_path / "pictures"`), which it returns.
    """

    def make(
        per_class: int = 8,
        kinds: tuple[str, ...] = KINDS[:2],
        size: tuple[int, int] = (96, 128),
        seed: int = 0,
        root: Path | None = None,
    ) -> Path:
        folder = root if root is not None else tmp_path / "pictures"
        for kind in kinds:
            for index in range(per_class):
                make_picture(folder / kind / f"{kind}-{index:03}.jpg", kind, size, seed * 10_000 + index)
        return folder

    return make


@pytest.fixture(scope="module")  # Playwright's event loop must not run on under the tests of other files
def browser() -> Iterator[Any]:
    """A headless browser, with a camera that shows a test picture; see `browsing` for its pages."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=arguments + camera)
        yield opened
        opened.close()


LABELS = {"circle": (210, 40, 40), "square": (40, 170, 60), "triangle": (50, 70, 220)}


def draw_shapes(labels: Sequence[str], seed: int, side: int = 96) -> Image.Image:
    """Return a picture with a shape for each label, where they chance to fall, over soft blobs."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(90, 200, (5, 6, 3), dtype=np.uint8))
    picture = blobs.resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for name in labels:
        r = int(rng.integers(side // 8, side // 5))
        x, y = (int(value) for value in rng.integers(r, side - r, 2))
        if name == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=LABELS[name])
        elif name == "square":
            pen.rectangle((x - r, y - r, x + r, y + r), fill=LABELS[name])
        else:
            pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=LABELS[name])
    return picture


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 110 pictures with none to three coloured shapes each.

    `columns.csv` lists them with `label:NAME` columns of 0 and 1, `lists.csv` with names joined by `;`.
    """
    folder = tmp_path_factory.mktemp("shapes")
    flags = np.random.default_rng(1).random((110, len(LABELS))) < 0.4
    columns, lists = [",".join(["path", *(f"label:{name}" for name in LABELS)])], ["path,label"]
    for index, row in enumerate(flags):
        names = [name for name, there in zip(LABELS, row, strict=True) if there]
        draw_shapes(names, index).save(folder / f"{index:03}.png")
        columns.append(",".join([f"{index:03}.png", *(str(int(there)) for there in row)]))
        lists.append(f"{index:03}.png,{';'.join(names)}")
    (folder / "columns.csv").write_text("\n".join(columns) + "\n")
    (folder / "lists.csv").write_text("\n".join(lists) + "\n")
    return folder
