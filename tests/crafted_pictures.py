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


def exif(kind: int, count: int, size: int, tag: int = 0x0112, *, there: int | None = None) -> bytes:
    """EXIF of one tag (the orientation), with as many values as it says, or as are `there`."""
    values = bytes([1, 0, 0, 0]) * ((count if there is None else there) * size // 4)
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, tag, kind, count, 26, 0) + values


def exif_segments(data: bytes) -> bytes:
    """Such EXIF in as many segments of a JPEG as it needs."""
    return b"".join(segment(0xE1, b"Exif\0\0" + data[at : at + 65_000]) for at in range(0, len(data), 65_000))


def tiff(strips: int, order: str = "<", entries: int = 0, last: tuple[int, int, int] = (4, 1, 4)) -> bytes:
    """A TIFF one pixel wide whose strips are all the same byte, with some empty entries more.

    And one last entry of values: of what type, how many, of how many bytes each.
    """
    count = 11 + entries
    offsets = 8 + 2 + 12 * count + 4
    sizes, pixel = offsets + 4 * strips, offsets + 8 * strips
    values = [(256, 1), (257, strips), (258, 8), (259, 1), (262, 1), (273, offsets), (277, 1), (278, 1), (279, sizes)]
    repeated = {273, 279}
    tags = [struct.pack(order + "HHII", tag, 4, strips if tag in repeated else 1, value) for tag, value in values]
    tags += [struct.pack(order + "HHII", 284, 4, 1, 1)]
    tags += [struct.pack(order + "HHII", 40_000, 4, 1, 1)] * entries
    kind, length, size = last
    tags += [struct.pack(order + "HHII", 40_001, kind, length, pixel + 1)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    places = struct.pack(order + "I", pixel) * strips + struct.pack(order + "I", 1) * strips
    return head + b"".join(tags) + bytes(4) + places + b"\x55" + bytes(length * size)


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
        "gif of many extensions": (gif(b"!\xfe\0" * 22_000), "blocks"),
        "gif of blocks behind an empty one": (gif(b"!\xf9\0" + b"\x0a" * 11 * 30_000 + b"\0"), "blocks"),
        "tiff of many strips": (tiff(120_000), "strips"),
        "tiff of many strips, the other way round": (tiff(120_000, ">"), "strips"),
        "tiff of many tags": (tiff(1, entries=6_000), "tags"),
        "tiff of many fractions": (tiff(1, last=(5, 2_000, 8)), "1,000 values"),
        "tiff of many fractions, the other way round": (tiff(1, ">", last=(10, 2_000, 8)), "1,000 values"),
        "tiff of many numbers": (tiff(1, last=(3, 210_000, 2)), "200,000 values"),
        "png of exif of many fractions": (png(before=chunk(b"eXIf", exif(5, 2_000, 8))), "1,000 values"),
        "png of such exif behind the pixels": (png(after=chunk(b"eXIf", exif(5, 2_000, 8))), "1,000 values"),
        "jpeg of exif of many fractions": (jpeg(segments=exif_segments(exif(5, 2_000, 8))), "1,000 values"),
        "jpeg of such exif in several segments": (jpeg(segments=exif_segments(exif(5, 20_000, 8))), "1,000 values"),
        "ppm of a long comment": (b"P6\n#" + b"a b " * 20_000 + b"\n1 1 255\nabc", "header"),
        "ppm as text": (b"P3\n10 10\n255\n" + b"#\n" * 1_000 + b"1 " * 300, "text"),
        "pbm as text": (b"P1\n2 2\n1 0 0 1\n", "text"),
        "bmp in runs": (bmp_rle(1_000_000), "run-length"),
    }


def harmless_pictures() -> dict[str, bytes]:
    """Files that have many parts and are read, as programs do write such."""
    frames = [Image.fromarray(np.full((4, 4, 3), shade, np.uint8)) for shade in range(1, 201)]
    animated = {"save_all": True, "append_images": frames[1:]}
    thumbnail = encoded(Image.fromarray(gradient(24, 32)), "JPEG", progressive=True)
    told = b'<rdf:li stRef:documentID="xmp.did:0123-4567"/>\n' * 43_000
    xmp = b"!\xff\x0bXMP DataXMP" + told + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    values = np.random.default_rng(0).integers(256, 4096, 160_000).astype(">u2")
    return {
        "jpeg whose profile holds the bytes of a scan": jpeg(segments=segment(0xE2, b"\xff\xda" * 1_000)),
        "jpeg with other pictures behind it": jpeg(thumbnail=thumbnail * 20),
        "jpeg of long metadata": jpeg(segments=segment(0xE1, bytes(65_000)) * 50),
        "png of many pixel chunks": png(before=chunk(b"prVt", bytes(500)) * 9_000),
        "animated png": encoded(frames[0], "PNG", **animated),
        "animated gif": encoded(frames[0], "GIF", **animated),
        "gif of two megabytes of xmp": gif(xmp),
        "jpeg of exif that promises more than there is": jpeg(segments=exif_segments(exif(5, 2_000, 8, there=10))),
        "jpeg of exif of many bytes": jpeg(segments=exif_segments(exif(7, 300_000, 1, 0x927C))),
        "tiff of many strips": tiff(20_000),
        "tiff of many bytes": tiff(1, last=(7, 300_000, 1)),
        "tiff of as many numbers as a palette of 16 bits": tiff(1, last=(3, 3 * 65_536, 2)),
        "ppm of blanks": b"P5 400 400 255\n" + b" " * 160_000,
        "pgm of 12 bits": b"P5 400 400 4095\n" + values.tobytes(),
    }
