"""Pages in a browser that note what they ask for and complain about."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

ITS_OWN = ("data", "blob")


def open_page(browser: Any, url: str, *, width: int = 1280, height: int = 800, **options: Any) -> Any:
    """Open a page of a headless browser: `requested` are the addresses it asks for, `wrong` what it complains of."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    page.opened, page.requested, page.wrong = url, [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("console", lambda message: page.wrong.append(message.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(url)
    return page


def asked_of_others(page: Any) -> list[str]:
    """Return what was asked for beyond the page's own server, or beyond its file."""
    host = urlsplit(page.opened).netloc
    asked = [url for url in page.requested if urlsplit(url).scheme not in ITS_OWN]
    return [url for url in asked if (urlsplit(url).netloc != host if host else url != page.opened)]
