"""What the HTML pages share: one look, one palette, pictures inside the file, and no request that leaves it."""

from __future__ import annotations

from headstart.use.page.pictures import picture_uri, thumbnail_uri
from headstart.use.page.render import render

__all__ = ["picture_uri", "render", "thumbnail_uri"]
