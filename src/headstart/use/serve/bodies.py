"""Request bodies -> pictures, in memory alone and never more than the limits allow.

Starlette's own form parser writes parts above a megabyte to a temporary file; this one never touches the disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headstart.use.serve.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FIELD = "files"
_LONGEST_NAME = 200


class Refused(Exception):  # noqa: N818 (an answer, not an error)
    """The request is answered with this status and one sentence."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Upload:
    """A picture that was sent: what to call it, and its bytes."""

    name: str
    data: bytes


class Bodies:
    """Reads bodies and counts the bytes of all that are held at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @contextmanager
    def holding(self) -> Iterator[Body]:
        """Give a body to fill; what it held is forgotten when the block ends."""
        body = Body(self, self._limits)
        try:
            yield body
        finally:
            self.held -= body.size


class Body:
    """One request's body; `read` may be called once."""

    def __init__(self, bodies: Bodies, limits: Limits) -> None:
        self._bodies = bodies
        self._limits = limits
        self.size = 0

    async def read(self, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> list[Upload]:
        """Return the pictures of a body: those of the multipart field `files`, or the whole body as one.

        Raises:
            Refused: The body is too large, empty, or not what its header says.
        """
        from python_multipart.multipart import parse_options_header

        if headers.get("content-encoding", "identity") not in ("", "identity"):
            raise Refused(415, "the body is compressed: send pictures as they are, without Content-Encoding.")
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._limits.body:
            raise self._too_large()
        kind, options = parse_options_header(headers.get("content-type"))
        if kind == b"multipart/form-data":
            return await self._parts(options.get(b"boundary", b""), chunks)
        data = bytearray()
        async for chunk in self._counted(chunks):
            data += chunk
        if not data:
            raise Refused(400, f"the body is empty: send a picture, or several in the multipart field {FIELD!r}.")
        return [Upload("picture 0", bytes(data))]

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while (chunk := await self._next(chunks)) is not None:
            if self.size + len(chunk) > self._limits.body:
                raise self._too_large()
            if self._bodies.held + len(chunk) > self._limits.bodies:
                raise Refused(503, "too much is being sent at once. Try again soon.", {"Retry-After": "1"})
            self.size += len(chunk)
            self._bodies.held += len(chunk)
            yield chunk

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        silence = asyncio.timeout(self._limits.silence)
        try:
            async with silence:
                return await anext(chunks, None)
        except TimeoutError:
            if not silence.expired():  # that of the whole request
                raise
            raise Refused(
                408, f"nothing more of the body had come for {self._limits.silence:g} s. Send it again."
            ) from None

    async def _parts(self, boundary: bytes, chunks: AsyncIterator[bytes]) -> list[Upload]:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        if not boundary:
            raise Refused(400, "the Content-Type is multipart/form-data without a boundary: leave it to your client.")
        form = _Form(self._limits.files)
        try:
            parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
            async for chunk in self._counted(chunks):
                parser.write(chunk)
            parser.finalize()
        except FormParserError:
            raise Refused(400, "the multipart body is damaged: send it as your client's form upload does.") from None
        if not form.ended:
            raise Refused(400, "the multipart body is cut off: its last boundary is missing. Send it again.")
        if not form.uploads:
            raise Refused(
                400, f"the form has no field {FIELD!r}: name the pictures so, as in curl -F {FIELD}=@cat.jpg."
            )
        return form.uploads

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is too large: at most {self._limits.body:,} bytes are read. Send less at once.")


@dataclass
class _Form:
    """What a parser's callbacks gather: the parts named `files`; other parts are passed over."""

    most: int
    uploads: list[Upload] = field(default_factory=list)
    ended: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: bytes = b""
    _value: bytes = b""
    _data: bytearray | None = None
    _title: str = ""

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._field,
            "on_header_value": self._text,
            "on_header_end": self._header,
            "on_headers_finished": self._begin,
            "on_part_data": self._more,
            "on_part_end": self._end,
            "on_end": self._last,
        }

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _text(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _begin(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._data = bytearray() if options.get(b"name") == FIELD.encode() else None
        if self._data is None:
            return
        if len(self.uploads) == self.most:
            raise Refused(413, f"the request has more than {self.most} pictures: send fewer at once.")
        self._title = display_name(options.get(b"filename", b"")) or f"picture {len(self.uploads)}"

    def _more(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += data[start:end]

    def _end(self) -> None:
        if self._data is not None:
            self.uploads.append(Upload(self._title, bytes(self._data)))
        self._data = None

    def _last(self) -> None:
        self.ended = True


def display_name(sent: bytes) -> str:
    """Return the name that a client gave a file, fit for JSON and for people; it is shown and never opened."""
    text = os.path.basename(sent.decode("utf-8", "replace").replace("\\", "/"))
    return "".join(letter if letter.isprintable() else "�" for letter in text)[:_LONGEST_NAME]
