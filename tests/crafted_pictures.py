"""Small files that would keep a decoder busy for minutes, each told by a word of its refusal."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import numpy as np
from odd_pictures import encoded, gradient
from PIL import Image


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def jpeg(*, scans: int = 0, segments: bytes = b"", thumbnail: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan comes `scans` times more, with segments before all others."""
    data = encoded(Image.fromarray(gradient()), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:2] + segments + data[2:-2] + data[last:-2] * scans + data[-2:] + thumbnail


def png(*, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG with chunks before and after its pixels."""
    data = encoded(Image.fromarray(gradient()), "PNG")
    first, end = data.index(b"IDAT") - 4, data.rindex(b"IEND") - 4
    return data[:first] + before + data[first:end] + after + data[end:]


def gif(before: bytes) -> bytes:
    """A GIF with extensions before its first frame."""
    data = encoded(Image.fromarray(gradient()).convert("P"), "GIF")
    first = 13 + (3 << ((data[10] & 7) + 1))
    return data[:first] + before + data[first:]


def tiff(strips: int, order: str = "<", entries: int = 0) -> bytes:
    """A TIFF one pixel wide whose strips are all the same byte, with some empty entries more."""
    count = 10 + entries
    offsets = 8 + 2 + 12 * count + 4
    sizes, pixel = offsets + 4 * strips, offsets + 8 * strips
    values = [(256, 1), (257, strips), (258, 8), (259, 1), (262, 1), (273, offsets), (277, 1), (278, 1), (279, sizes)]
    repeated = {273, 279}
    tags = [struct.pack(order + "HHII", tag, 4, strips if tag in repeated else 1, value) for tag, value in values]
    tags += [struct.pack(order + "HHII", 284, 4, 1, 1)]
    tags += [struct.pack(order + "HHII", 40_000, 4, 1, 1)] * entries
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    places = struct.pack(order + "I", pixel) * strips + struct.pack(order + "I", 1) * strips
    return head + b"".join(tags) + bytes(4) + places + b"\x55"


def bmp_rle(width: int) -> bytes:
    body = b"\x01\x00\x00\x00\x00\x01"
    head = struct.pack("<IiiHHIIiiII", 40, width, 1, 1, 8, 1, len(body), 0, 0, 256, 256)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + bytes(1024) + body


@cache
def crafted_pictures() -> dict[str, tuple[bytes, str]]:
    """Return name -> (file, word of the sentence that refuses it)."""
    bomb = zlib.compress(bytes(1_000_000), 9)[:-1] + b"x"  # inflated, then found to be damaged, and so never counted
    text = chunk(b"zTXt", b"a\0\0" + bomb)
    twice = chunk(b"acTL", struct.pack(">II", 9, 0))
    once = chunk(b"acTL", struct.pack(">II", 1, 0))
    frame = chunk(b"fcTL", bytes(26))
    return {
        "jpeg of many scans": (jpeg(scans=100), "40 scans"),
        "jpeg of many scans behind another picture's end": (jpeg(segments=b"\xff\xd9", scans=100), "40 scans"),
        "jpeg of many segments": (jpeg(segments=segment(0xFE, b"") * 6_000), "segments"),
        "jpeg of many segments in one without a length": (
            jpeg(segments=(b"\xff\xc8\xff\xff" + segment(0xFE, b"") * 6_000)),
            "segments",
        ),
        "jpeg of many exif segments": (jpeg(segments=segment(0xE1, b"Exif\0\0" + bytes(10)) * 200), "EXIF"),
        "jpeg of padding": (jpeg(segments=b"\xff" * 20_000), "bytes between"),
        "jpeg of nothing but padding": (b"\xff\xd8\xff" + b"\xff" * 20_000, "bytes between"),
        "png of many chunks": (png(before=chunk(b"prVt") * 11_000), "chunks"),
        "png of many empty pixel chunks": (png(before=chunk(b"IDAT") * 11_000), "chunks"),
        "png of many chunks after the pixels": (png(after=chunk(b"prVt") * 11_000), "chunks"),
        "png of many bombs": (png(before=text * 200), "compressed"),
        "png of many profiles": (png(before=chunk(b"iCCP", b"a\0\0" + bomb) * 200), "compressed"),
        "png of bombs behind a frame of no animation": (png(before=once, after=frame + text * 200), "compressed"),
        "png of bombs behind a frame of two animations": (
            png(before=twice * 2, after=frame + text * 200),
            "compressed",
        ),
        "gif of many blocks": (gif(b"!\xfe" + b"\1a" * 21_000 + b"\0"), "blocks"),
        "gif of many extensions": (gif(b"!\xfe\0" * 21_000), "blocks"),
        "gif of blocks behind an empty one": (gif(b"!\xf9\0" + b"\x2c" * 45 * 21_000 + b"\0"), "blocks"),
        "tiff of many strips": (tiff(120_000), "strips"),
        "tiff of many strips, the other way round": (tiff(120_000, ">"), "strips"),
        "tiff of many tags": (tiff(1, entries=6_000), "tags"),
        "ppm of a long comment": (b"P6\n#" + b"a b " * 20_000 + b"\n1 1 255\nabc", "header"),
        "ppm as text": (b"P3\n10 10\n255\n" + b"#\n" * 1_000 + b"1 " * 300, "text"),
        "pbm as text": (b"P1\n2 2\n1 0 0 1\n", "text"),
        "bmp in runs": (bmp_rle(1_000_000), "run-length"),
    }


def harmless_pictures() -> dict[str, bytes]:
    """Files that have many parts and are read, as programs do write such."""
    frames = [Image.fromarray(np.full((4, 4, 3), shade, np.uint8)) for shade in range(200)]
    animated = {"save_all": True, "append_images": frames[1:]}
    thumbnail = encoded(Image.fromarray(gradient(24, 32)), "JPEG", progressive=True)
    return {
        "jpeg whose profile holds the bytes of a scan": jpeg(segments=segment(0xE2, b"\xff\xda" * 1_000)),
        "jpeg with other pictures behind it": jpeg(thumbnail=thumbnail * 20),
        "jpeg of long metadata": jpeg(segments=segment(0xE1, bytes(65_000)) * 50),
        "png of many pixel chunks": png(before=chunk(b"prVt", bytes(500)) * 9_000),
        "animated png": encoded(frames[0], "PNG", **animated),
        "animated gif": encoded(frames[0], "GIF", **animated),
        "tiff of many strips": tiff(20_000),
        "ppm of blanks": b"P5 400 400 255\n" + b" " * 160_000,
        "pgm of 12 bits": b"P5 400 400 4095\n" + bytes(320_000),
    }
