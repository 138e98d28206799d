"""Pictures made to keep a decoder busy: told from their structure, in a moment, before any decoder sees them.

A few kilobytes can ask for minutes of work: the scans of a JPEG are decoded one after the other however often they
come, and Pillow reads headers and some odd formats in Python, a byte, a chunk or a strip at a time. The limits here
are far from what cameras and programs write. docs/decisions/0003-decoding.md has what was measured.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from headstart.core.errors import ImageError

if TYPE_CHECKING:
    from PIL import ImageFile

MAX_SCANS = 40  # of a JPEG; encoders write about ten, and each takes as long as decoding the whole picture
MAX_SEGMENTS = 5_000  # of a JPEG; metadata of 64 KB each
MAX_EXIF_SEGMENTS = 100  # of a JPEG; Pillow copies all that came before for each
MAX_PADDING = 10_000  # bytes between the segments of a JPEG
MAX_CHUNKS = 10_000  # of a PNG, and one more a kilobyte of the file
MAX_COMPRESSED = 100  # chunks of a PNG that Pillow inflates, up to a megabyte each
MAX_BLOCKS = 20_000  # before the first frame of a GIF, and one more each 64 bytes of the file: XMP reads as such blocks
MAX_HEADER = 65_536  # bytes of a PPM's header
MAX_STRIPS = 100_000  # or tiles of a TIFF
MAX_TAGS = 5_000  # of a TIFF
MAX_VALUES = 200_000  # numbers of a tag of a TIFF or of EXIF; the colours of a palette of 16 bits are 196,608
MAX_RATIONALS = 1_000  # of a tag; Pillow makes a fraction of Python of each

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END = 0xD9
# Markers of a JPEG without a length, or that Pillow takes for such.
_STANDS_ALONE = frozenset({0x01, 0xC8, 0xD8, _END, *range(0xF0, 0xFE)})
_COMPRESSED = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_EXIF = b"Exif\0\0"
_COMMENT, _APPLICATION = 0xFE, 0xFF  # extensions of a GIF
_STRIP_TAGS = frozenset({273, 279, 324, 325})  # offsets and byte counts, of strips and of tiles
_RATIONALS = frozenset({5, 10})
# Bytes of a value by type; BYTE, ASCII and UNDEFINED are not here, as Pillow takes those as they are.
_NUMBERS = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def refuse(data: bytes) -> None:
    """Refuse the bytes of a file that would take far longer to read than a picture of its size.

    Raises:
        ImageError: It has more parts than any picture needs; one sentence.
    """
    if data.startswith(b"\xff\xd8\xff"):
        _refuse_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _refuse_png(data)
    elif data.startswith((b"GIF87a", b"GIF89a")) and len(data) > 13:
        _refuse_gif(data)
    elif data.startswith((b"II", b"MM")) and len(data) > 8:
        _refuse_tiff(data)
    elif data.startswith(b"P"):
        _refuse_ppm(data)


def refuse_exif(data: bytes) -> None:
    """Refuse EXIF that would take long to read, with or without the word Exif in front.

    Raises:
        ImageError: It has more values than any picture needs; one sentence.
    """
    while data.startswith(_EXIF):  # as Pillow does
        data = data[len(_EXIF) :]
    if data.startswith((b"II", b"MM")) and len(data) > 8:
        _refuse_tiff(data)


def refuse_slow_decoder(image: ImageFile.ImageFile) -> None:
    """Refuse an opened picture whose pixels Pillow would decode in Python, where a kilobyte can take a minute.

    `ppm` (binary, with a largest value of its own) is let through: `images` decodes it without Pillow.

    Raises:
        ImageError: Its decoder is of that kind; one sentence.
    """
    from PIL import Image

    for tile in image.tile:
        if tile[0] in Image.DECODERS and tile[0] != "ppm":
            kind = {"bmp_rle": "a run-length encoded BMP", "ppm_plain": "a PPM written as text"}.get(tile[0], tile[0])
            raise ImageError(f"it is {kind}, which is not read. Save it as PNG.")


def _too_many(what: str, most: int) -> ImageError:
    return ImageError(f"it has more than {most:,} {what}, which no picture needs. Save it again or leave it out.")


def _refuse_jpeg(data: bytes) -> None:
    position, segments, scans, padding = 2, 0, 0, 0
    exif: list[bytes] = []
    while found := _JPEG_MARKER.search(data, position):
        marker = data[found.start() + 1]
        if marker == _END and scans:  # more may follow, such as the other pictures of an MPO
            break
        if scans == 0:
            padding += found.start() - position
        length = 0 if marker in _STANDS_ALONE else int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + length
        segments += 1
        scans += marker == 0xDA
        if marker == 0xE1 and data.startswith(_EXIF, found.end() + 2):
            exif.append(data[found.end() + 2 + len(_EXIF) : position])
        if scans > MAX_SCANS:
            raise _too_many("scans", MAX_SCANS)
        if segments > MAX_SEGMENTS:
            raise _too_many("segments", MAX_SEGMENTS)
        if len(exif) > MAX_EXIF_SEGMENTS:
            raise _too_many("segments of EXIF", MAX_EXIF_SEGMENTS)
        if padding > MAX_PADDING:
            break
    if padding > MAX_PADDING or (scans == 0 and len(data) - position > MAX_PADDING):
        raise _too_many("bytes between its segments", MAX_PADDING)
    refuse_exif(b"".join(exif))  # Pillow reads it as it opens the file, for the resolution


def _refuse_png(data: bytes) -> None:
    position, chunks, compressed, pixels = 8, 0, 0, False
    frames: list[int] = []  # what each acTL says
    most = MAX_CHUNKS + len(data) // 1024
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        animated = len(frames) == 1 and 1 < frames[0] <= 2**31
        if kind == b"IEND" or (kind == b"fcTL" and pixels and animated):  # where Pillow stops reading, too
            return
        if kind == b"acTL" and not pixels:
            frames.append(int.from_bytes(data[position + 8 : position + 12], "big"))
        if kind == b"eXIf":
            refuse_exif(data[position + 8 : position + 8 + length])
        position += 12 + length
        chunks += 1
        compressed += kind in _COMPRESSED
        pixels = pixels or kind == b"IDAT"
        if chunks > most:
            raise _too_many("chunks", most)
        if compressed > MAX_COMPRESSED:
            raise _too_many("compressed texts and profiles", MAX_COMPRESSED)


def _refuse_gif(data: bytes) -> None:
    """Count what Pillow reads one by one: blocks with their length in front, and bytes that belong to nothing."""
    data += bytes(3)  # so that a file that is cut off ends a chain of blocks
    end = len(data) - 3
    position = 13 + ((3 << ((data[10] & 7) + 1)) if data[10] & 128 else 0)
    read, most = 0, MAX_BLOCKS + len(data) // 64
    while position < end and data[position] not in b",;":
        extension, label = data[position] == 0x21, data[position + 1]
        position += 2 if extension else 1
        if extension and label != _COMMENT:  # Pillow takes its first block by itself, be it empty
            netscape = label == _APPLICATION and data.startswith(b"NETSCAPE2.0", position + 1)
            for _ in range(2 if netscape else 1):
                position = min(end, position + 1 + data[position])
        while extension and data[position]:
            position = min(end, position + 1 + data[position])
            read += 1
            if read > most:
                break
        position += extension
        read += 1
        if read > most:
            raise _too_many("blocks of metadata", most)


def _refuse_tiff(data: bytes) -> None:
    order = "<" if data.startswith(b"II") else ">"
    # BigTIFF; of one in big-endian order Pillow takes the header for that of an ordinary one.
    for big in {data[2] == 43, data[2:4] in (b"+\0", b"\0+")}:
        start, count, entry, size = ("Q", "Q", "HHQ", 20) if big else ("I", "H", "HHI", 12)
        try:
            (directory,) = struct.unpack_from(order + start, data, 8 if big else 4)
            (tags,) = struct.unpack_from(order + count, data, directory)
            if tags > MAX_TAGS:
                raise _too_many("tags", MAX_TAGS)
            first = directory + struct.calcsize(order + count)
            for at in range(first, first + tags * size, size):
                tag, kind, values = struct.unpack_from(order + entry, data, at)
                if tag in _STRIP_TAGS and values > MAX_STRIPS:
                    raise _too_many("strips", MAX_STRIPS)
                most = MAX_RATIONALS if kind in _RATIONALS else MAX_VALUES
                # Of a damaged tag that says more than there is Pillow reads nothing.
                if values > most and values * _NUMBERS.get(kind, len(data)) <= len(data):
                    raise _too_many("values of a tag", most)
        except (struct.error, IndexError, OverflowError):  # cut off: Pillow says so
            continue


def _refuse_ppm(data: bytes) -> None:
    if len(data) <= MAX_HEADER:
        return
    head = re.sub(rb"#[^\r\n]*(?:[\r\n]|\Z)", b" ", data[:MAX_HEADER])
    words = 3 if data[1:2] in b"14" else 4  # magic, width, height and, unless pixels are bits, the largest value
    found = head.split(None, words)
    if len(found) < words or (len(found) == words and not head[-1:].isspace()):
        raise _too_many("bytes of header", MAX_HEADER)
