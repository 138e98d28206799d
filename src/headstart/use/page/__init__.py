"""What the HTML pages share: one look, one palette, pictures inside the file, and no request that leaves it."""

from __future__ import annotations

from headstart.use.page.files import check_page, save_page
from headstart.use.page.pictures import picture_uri, thumbnail_uri
from headstart.use.page.render import render

__all__ = ["check_page", "picture_uri", "render", "save_page", "thumbnail_uri"]
