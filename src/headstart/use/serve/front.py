"""The page at `/`: a few files, each under a fixed name; nothing that a request says becomes a path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from headstart.use.page.render import SHARED

_OWN = Path(__file__).parent / "page"
_UTF8 = "; charset=utf-8"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """The page, which asks the same routes as every other client."""
    return Response(_read("page.html"), media_type="text/html" + _UTF8)


@router.get("/page.css")
async def look() -> Response:
    """The look that all pages of headstart share, then the page's own."""
    return Response(_read("style.css", SHARED) + _read("page.css"), media_type="text/css" + _UTF8)


@router.get("/page.js")
async def script() -> Response:
    """What the page does."""
    return _script("page.js")


@router.get("/server.js")
async def server() -> Response:
    """How it talks with the server."""
    return _script("server.js")


@router.get("/cards.js")
async def cards() -> Response:
    """What it shows of each picture."""
    return _script("cards.js")


@router.get("/sources.js")
async def sources() -> Response:
    """Where its pictures come from."""
    return _script("sources.js")


@router.get("/words.js")
async def words() -> Response:
    """What the scripts share."""
    return _script("words.js")


@router.get("/icon.svg")
async def icon() -> Response:
    """The page's mark in a browser's tab."""
    return Response(_read("icon.svg"), media_type="image/svg+xml")


def _script(name: str) -> Response:
    return Response(_read(name), media_type="text/javascript" + _UTF8)


@cache
def _read(name: str, folder: Path = _OWN) -> bytes:
    return (folder / name).read_bytes()
