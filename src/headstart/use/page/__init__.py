"""What the HTML pages share: one look, one palette, pictures inside the file, and no request that leaves it."""

from __future__ import annotations

from headstart.use.page.files import check_page, save_page
from headstart.use.page.pictures import THUMBNAIL_SIDE, picture_uri, thumbnail_or_none, thumbnail_uri
from headstart.use.page.render import render

__all__ = [
    "THUMBNAIL_SIDE",
    "check_page",
    "picture_uri",
    "render",
    "save_page",
    "thumbnail_or_none",
    "thumbnail_uri",
]
