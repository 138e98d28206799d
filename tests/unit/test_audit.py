from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from headstart.core import images
from headstart.core.errors import DataError
from headstart.learn import audit as module
from headstart.learn.audit import Record, audit, set_aside
from headstart.learn.dataset import read_dataset
from headstart.learn.duplicates import components, identical_pairs, near_pairs


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(seed: int = 0, size: tuple[int, int] = (120, 160)) -> Image.Image:
    return Image.fromarray(draw("dots", size, seed))


def one(path: Path, data: bytes) -> Record:
    path.write_bytes(data)
    (record,) = audit([str(path)])
    return record


# Records


def test_a_record_holds_digest_size_format_and_hashes(tmp_path: Path) -> None:
    data = encode(photo(), "PNG")
    record = one(tmp_path / "a.png", data)
    assert record.path == str(tmp_path / "a.png")
    assert record.digest == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert (record.width, record.height, record.format, record.problem) == (160, 120, "PNG", None)
    assert 0 < record.hash < 2**64
    assert len(record.thumbnail) == 8 * 8 * 3
    # Area averages of 15 x 20 pixels, computed another way; small steps of rounding lie between.
    expected = np.asarray(photo(), float).reshape(8, 15, 8, 20, 3).mean(axis=(1, 3))
    assert np.abs(np.frombuffer(record.thumbnail, np.uint8).reshape(8, 8, 3) - expected).max() < 4


def test_the_hash_is_imagehash_s_phash(tmp_path: Path) -> None:
    import imagehash

    image = photo(size=(64, 64))
    record = one(tmp_path / "a.png", encode(image, "PNG"))
    assert f"{record.hash:016x}" == str(imagehash.phash(image))


ODD = {
    "grey.jpg": lambda: encode(photo().convert("L"), "JPEG"),
    "cmyk.jpg": lambda: encode(photo().convert("CMYK"), "JPEG"),
    "progressive.jpg": lambda: encode(photo(), "JPEG", progressive=True),
    "palette.png": lambda: encode(photo().convert("P"), "PNG"),
    "alpha.png": lambda: encode(photo().convert("RGBA"), "PNG"),
    "wide.png": lambda: encode(Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)), "PNG"),
    "bilevel.png": lambda: encode(photo().convert("1"), "PNG"),
    "moving.gif": lambda: encode(photo(), "GIF", save_all=True, append_images=[photo(1)]),
    "lossless.webp": lambda: encode(photo(), "WEBP", lossless=True),
    "plain.bmp": lambda: encode(photo(), "BMP"),
    "packed.tiff": lambda: encode(photo(), "TIFF", compression="tiff_lzw"),
    "wide.tif": lambda: encode(Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)), "TIFF"),
    "png_inside.jpg": lambda: encode(photo(), "PNG"),
    "one_pixel.png": lambda: encode(Image.new("RGB", (1, 1)), "PNG"),
    "long.png": lambda: encode(Image.new("RGB", (3000, 1), "red"), "PNG"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_audited_like_any(tmp_path: Path, name: str) -> None:
    record = one(tmp_path / name, ODD[name]())
    assert record.problem is None
    assert record.width * record.height > 0
    assert len(record.thumbnail) == 192


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.jpg": (lambda: encode(photo(), "JPEG")[:-2000], "cut off|damaged"),
    "cut_progressive.jpg": (lambda: encode(photo(), "JPEG", progressive=True)[:-2000], "cut off|damaged"),
    "cut.png": (lambda: encode(photo(), "PNG")[:-5000], "cut off|damaged"),
    "cut.webp": (lambda: encode(photo(), "WEBP")[:-900], "cut off|damaged|header"),
    "text.jpg": (lambda: b"these are not the pixels you are looking for", "not a picture of a known format"),
    "empty.jpg": (lambda: b"", "empty"),
    "zeros.png": (lambda: bytes(5000), "not a picture of a known format"),
    "huge.png": (lambda: png_header(20_000, 20_000), "pixels; at most 100 megapixels"),
    "large.png": (lambda: png_header(12_000, 10_000), "pixels; at most 100 megapixels"),
    "absurd.png": (lambda: png_header(2**31 - 1, 2**31 - 1), "pixels; at most 100 megapixels"),
    "lying.png": (lambda: png_header(9_000, 9_000), "cut off|damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_gives_its_problem_in_one_line(tmp_path: Path, name: str) -> None:
    make, text = BROKEN[name]
    record = one(tmp_path / name, make())
    assert record.problem is not None
    assert any(part in record.problem for part in text.split("|"))
    assert "\n" not in record.problem
    assert record.thumbnail == b""
    assert bool(record.digest) == bool(make())


def test_a_real_picture_over_100_megapixels_is_refused_by_its_header(tmp_path: Path) -> None:
    record = one(tmp_path / "huge.png", encode(Image.new("1", (12_000, 10_000)), "PNG"))
    assert record.problem is not None
    assert "at most 100 megapixels" in record.problem


def test_a_cut_jpeg_is_found_at_the_small_scale_too(tmp_path: Path) -> None:
    data = encode(photo(size=(900, 1200)), "JPEG", quality=95)
    assert one(tmp_path / "whole.jpg", data).problem is None
    assert one(tmp_path / "cut.jpg", data[: len(data) * 9 // 10]).problem is not None


def test_missing_files_and_folders_are_problems_too(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    records = audit([str(tmp_path / name) for name in ("absent.jpg", "folder.jpg", "broken.jpg")])
    assert [record.digest for record in records] == ["", "", ""]
    assert [str(record.problem).split(".")[0] for record in records] == [
        "there is no such file",
        "this is a folder, where a picture file was expected",
        "there is no such file",
    ]


def test_a_pipe_called_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (record,) = audit([str(tmp_path / "pipe.jpg")])
    assert "pipe" in str(record.problem)


# The run


def test_order_is_kept_and_progress_counts_every_picture(tmp_path: Path) -> None:
    paths = []
    for i in range(70):
        paths.append(str(tmp_path / f"{i}.png"))
        photo(i, (16 + i, 16)).save(paths[-1])
    calls: list[tuple[int, int]] = []
    for workers in (1, 3, None):
        calls.clear()
        records = audit(iter(paths), workers=workers, progress=lambda done, total: calls.append((done, total)))
        assert [record.path for record in records] == paths
        assert [record.height for record in records] == [16 + i for i in range(70)]
        assert calls == [(i + 1, 70) for i in range(70)]
    assert audit([]) == ()


def test_what_the_store_knows_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(5)]
    for i, path in enumerate(paths):
        photo(i).save(path)
    (tmp_path / "bad.jpg").write_bytes(b"text")
    store: dict[str, dict[str, object]] = {}
    first = audit([*paths, str(tmp_path / "bad.jpg")], store=store)
    assert store.keys() == {record.digest for record in first[:5]}, "problems are not stored"
    store = json.loads(json.dumps(store))

    decoded: list[int] = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda data, **options: decoded.append(1) or decode(data, **options))
    renamed = tmp_path / "renamed.png"
    Path(paths[0]).rename(renamed)
    again = audit([str(renamed), *paths[1:]], store=store)
    assert decoded == []
    assert [record.digest for record in again] == [record.digest for record in first[:5]]
    assert again[1:] == first[1:5]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry.update(version=-1),
        lambda entry: entry.pop("hash"),
        lambda entry: entry.update(thumbnail="AAAA"),
        lambda entry: entry.update(thumbnail="%%%"),
        lambda entry: entry.update(hash=None),
    ],
)
def test_a_store_with_damaged_entries_is_read_past_and_mended(tmp_path: Path, spoil: Callable[[dict], object]) -> None:
    photo().save(tmp_path / "a.png")
    store: dict[str, dict[str, object]] = {}
    first = audit([str(tmp_path / "a.png")], store=store)
    right = json.loads(json.dumps(store))
    spoil(store[first[0].digest])
    assert audit([str(tmp_path / "a.png")], store=store) == first
    assert store == right


def test_an_interrupted_audit_keeps_what_it_found_and_ends_its_threads(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(100)]
    for i, path in enumerate(paths):
        photo(i, (20, 20)).save(path)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    store: dict[str, dict[str, object]] = {}
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        audit(paths, store=store, progress=interrupt, workers=2)
    assert 3 <= len(store) < 100
    assert set(threading.enumerate()) <= before


def test_an_error_that_is_no_picture_s_ends_the_audit_at_its_picture_and_keeps_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(100)]
    for i, path in enumerate(paths):
        photo(i, (20 + i, 20)).save(path)
    inspect, done = images.inspect, []

    def fails(data: bytes) -> images.PictureInfo:
        info = inspect(data)
        if info.height == 25:
            raise MemoryError("no memory for it")
        return info

    monkeypatch.setattr(images, "inspect", fails)
    store: dict[str, dict[str, object]] = {}
    before = set(threading.enumerate())
    with pytest.raises(MemoryError, match="no memory for it"):
        audit(paths, store=store, progress=lambda number, total: done.append(number), workers=2)
    assert done == [1, 2, 3, 4, 5]
    assert {20, 21, 22, 23, 24} <= {entry["height"] for entry in store.values()}
    assert len(store) < 99
    assert set(threading.enumerate()) <= before


def test_as_many_pictures_are_read_at_once_as_the_process_may_use_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(12)]
    for i, path in enumerate(paths):
        photo(i, (20, 20)).save(path)
    decode, seen = images.decode, set()
    meeting = threading.Barrier(3)

    def meets(data: bytes, **options: object) -> np.ndarray:
        seen.add(threading.get_ident())
        meeting.wait(timeout=60)  # three of them, or it breaks
        return decode(data, **options)

    monkeypatch.setattr(images, "decode", meets)
    monkeypatch.setattr(module, "cores", lambda: 3)
    assert all(record.problem is None for record in audit(paths))
    assert len(seen) == 3


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, path in enumerate(paths):
        photo(i, (40, 40)).save(path)
    monkeypatch.setattr(module, "_LARGE_PIXELS", 1000)
    decode, running, most = images.decode, [], []

    def watched(data: bytes, **options: object) -> np.ndarray:
        running.append(1)
        most.append(len(running))
        try:
            return decode(data, **options)
        finally:
            running.pop()

    monkeypatch.setattr(images, "decode", watched)
    assert all(record.problem is None for record in audit(paths, workers=4))
    assert max(most) == 1


# Setting aside


def test_unreadable_pictures_are_named_and_set_aside(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders(per_class=3)
    (root / "dots" / "bad.jpg").write_bytes(b"text")
    dataset = read_dataset(root)
    kept, records, unreadable = set_aside(dataset, audit(dataset.paths))
    assert len(kept) == len(records) == 6
    assert kept.paths == tuple(record.path for record in records)
    ((path, reason),) = unreadable
    assert path == str(root / "dots" / "bad.jpg")
    assert "not a picture of a known format" in reason


def test_too_few_readable_pictures_are_told_with_everything_else(class_folders: Callable[..., Path]) -> None:
    root = class_folders(per_class=3)
    for name in ("dots-000.jpg", "dots-001.jpg"):
        (root / "dots" / name).write_bytes(b"text")
    (root / "nothing").mkdir()
    dataset = read_dataset(root, collect=True)
    with pytest.raises(DataError) as error:
        set_aside(dataset, audit(dataset.paths))
    lines = str(error.value).splitlines()
    assert lines[0] == f"{root}: 4 problems"
    assert lines[1] == "- class folders without a picture: nothing. Add pictures or remove them."
    assert lines[2] == "- classes with fewer than 2 pictures: dots (1). Add pictures or remove them."
    assert lines[3].startswith(f"- unreadable: {root}/dots/dots-000.jpg: it is not a picture")


def test_a_dataset_of_which_nothing_can_be_read_is_refused_even_for_evaluation(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"text")
    dataset = read_dataset(tmp_path, for_training=False)
    with pytest.raises(DataError, match="no picture of it can be read"):
        set_aside(dataset, audit(dataset.paths), for_training=False)


# Duplicates


def scene(seed: int) -> Image.Image:
    """Soft shapes with a fine grain, as in a photograph: what is in it is larger than what a crop cuts off."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((320, 240), 3)
    return Image.fromarray(np.clip(np.asarray(shapes) + rng.normal(0, 8, (240, 320, 3)), 0, 255).astype(np.uint8))


def pairs_of(tmp_path: Path, *pictures: bytes) -> tuple[list[list[int]], list[list[int]]]:
    paths = []
    for i, data in enumerate(pictures):
        paths.append(str(tmp_path / f"{i}.bin"))
        Path(paths[-1]).write_bytes(data)
    records = audit(paths)
    assert all(record.problem is None for record in records)
    return identical_pairs(records).tolist(), near_pairs(records).tolist()


def test_identical_bytes_are_identical_and_not_near(tmp_path: Path) -> None:
    a, b = encode(photo(1), "PNG"), encode(photo(2), "PNG")
    assert pairs_of(tmp_path, a, b, a, a) == ([[0, 2], [0, 3]], [])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encode(image, "JPEG", quality=60),
        lambda image: encode(image.resize((192, 144)), "PNG"),
        lambda image: encode(image.point(lambda v: min(255, int(v * 1.05))), "WEBP"),
        lambda image: encode(image.crop((5, 4, 315, 236)), "BMP"),
        lambda image: encode(image.convert("RGBA"), "PNG"),
    ],
    ids=["jpeg", "resized", "brighter", "cropped", "alpha"],
)
def test_a_changed_copy_is_near_identical(tmp_path: Path, change: Callable[[Image.Image], bytes]) -> None:
    image = scene(1)
    others = [encode(scene(seed), "PNG") for seed in range(2, 8)]
    assert pairs_of(tmp_path, encode(image, "PNG"), *others, change(image)) == ([], [[0, 7]])


def test_plain_colours_are_never_near_identical(tmp_path: Path) -> None:
    plain = [encode(Image.new("RGB", (100, 100), (200, value, 40)), "PNG") for value in range(0, 250, 5)]
    assert pairs_of(tmp_path, *plain) == ([], [])


def test_the_same_shape_in_another_colour_or_brightness_is_another_picture(tmp_path: Path) -> None:
    colours = [(200, 30, 30), (30, 30, 200), (30, 200, 30), (60, 60, 60), (140, 140, 140)]
    drawn = []
    for colour in colours:
        image = Image.new("RGB", (120, 120), "white")
        image.paste(colour, (30, 20, 80, 100))
        drawn.append(encode(image, "PNG"))
    assert pairs_of(tmp_path, *drawn) == ([], [])


@pytest.mark.parametrize(("side", "resample"), [(8, 0), (32, 3), (64, 0)])
def test_handwritten_digits_are_not_chained_together(tmp_path: Path, side: int, resample: int) -> None:
    from sklearn.datasets import load_digits

    paths = []
    for i, digit in enumerate(load_digits().images[:600]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((side, side), resample).save(paths[-1])
    pairs = near_pairs(audit(paths))
    assert len(pairs) <= 1
    assert np.bincount(components(len(paths), pairs)).max() <= 2


def fake(digest: int, hash: int, thumbnail: np.ndarray) -> Record:
    return Record(f"{digest}.png", f"{digest:032x}", hash, 100, 100, "PNG", None, thumbnail.tobytes())


def test_near_pairs_are_exactly_those_a_slow_search_finds() -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2**63, 12)
    thumbnails = rng.integers(0, 256, (6, 192), dtype=np.uint8)
    records = []
    for _ in range(300):
        hash = int(centres[rng.integers(12)])
        for bit in rng.choice(64, rng.integers(0, 8), replace=False):
            hash ^= 1 << int(bit)
        records.append(fake(int(rng.integers(2**60)), hash, thumbnails[rng.integers(6)]))
    slow = {
        (i, j)
        for i, a in enumerate(records)
        for j, b in enumerate(records[:i])
        if (a.hash ^ b.hash).bit_count() <= 8 and a.thumbnail == b.thumbnail
    }
    assert len(slow) > 100
    assert {(j, i) for i, j in near_pairs(records).tolist()} == slow


def test_many_pictures_of_one_hash_cost_little_and_still_hang_together() -> None:
    thumbnail = np.random.default_rng(0).integers(0, 256, 192, dtype=np.uint8)
    records = [fake(i, 12345, thumbnail) for i in range(3000)]
    pairs = near_pairs(records)
    assert len(pairs) < 20 * 3000
    assert not components(3000, pairs).any()


def test_components_name_each_item_by_the_smallest_it_is_connected_with() -> None:
    pairs = np.array([[4, 3], [3, 1], [5, 6]])
    assert components(7, pairs).tolist() == [0, 1, 2, 1, 1, 5, 5]
