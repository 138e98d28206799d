"""Who may ask: API keys, whose pages may call, and the headers that tell a browser what a page may do."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from headstart.core.errors import SettingError

KEYS_VARIABLE = "HEADSTART_API_KEYS"
_SHORTEST_KEY = 16
_ORIGIN = re.compile(r"(?!http://.*:80$|https://.*:443$)[a-z][a-z0-9+.-]*://[^\sA-Z/?#@*]+")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# The page, its pictures and its camera; nothing from elsewhere, and no frame around it.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
}


class Keys:
    """The API keys of a server, kept as digests; without any, everybody may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, given: str) -> bool:
        """Whether `given` is one of the keys; takes the same time for every text of its length."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


@dataclass(frozen=True)
class Access:
    """Who may ask a server.

    Attributes:
        keys: API keys; without any, everybody may ask.
        hosts: Names that the server may be called by; None: any.
        origins: Of other sites whose pages may call.
    """

    keys: Keys = field(default_factory=Keys)
    hosts: frozenset[str] | None = LOOPBACK
    origins: frozenset[str] = frozenset()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at `host`."""
    return host in LOOPBACK or host.startswith("127.")


def hosts_for(host: str, allowed: Iterable[str] = ()) -> frozenset[str] | None:
    """Return the names that a server may be called by which listens at `host`; None: any.

    On loopback no others than loopback's own and those allowed, see `foreign`. Elsewhere the server cannot know what it
    is called: any, unless some are allowed.
    """
    names = frozenset(allowed)
    return LOOPBACK | {host} | names if is_loopback(host) or names else None


def read_keys(file: str | None) -> Keys:
    """Return the keys of a file, one a line, or of the variable `HEADSTART_API_KEYS`, separated by commas.

    Raises:
        SettingError: The file cannot be read, it or the variable holds no key, or one is shorter than 16 characters.
    """
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"the API keys {file} cannot be read ({error}). Check the path.") from None
        keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not keys:
            raise SettingError(f"{file} holds no API key: write one a line.")
    else:
        given = os.environ.get(KEYS_VARIABLE)
        keys = [key.strip() for key in (given or "").split(",") if key.strip()]
        if given is not None and not keys:  # whoever set it wants no server that is open to all
            raise SettingError(
                f"{KEYS_VARIABLE} is set but holds no API key: write some, separated by commas, or take it away."
            )
    if any(len(key) < _SHORTEST_KEY for key in keys):
        raise SettingError(
            f"an API key has fewer than {_SHORTEST_KEY} characters: make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'."
        )
    return Keys(keys)


def check_origins(origins: Iterable[str]) -> frozenset[str]:
    """Return the origins as they are, once each is written as browsers send it; any other would never be met.

    Raises:
        SettingError: One is written differently, such as with a path, or is `*`.
    """
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingError(
                f"{origin!r} is no origin: give scheme, host and, unless it is the usual one, port, in lower case and "
                "without a slash at the end, such as https://pictures.example."
            )
    return frozenset(origins)


def foreign(headers: Mapping[str, str], access: Access) -> str | None:
    """Return why a request is refused: it is for another host, or from a page of another site; None: it is not.

    A page of another site could otherwise use a server on its visitor's own machine, by its address or through a
    name that it lets point there (DNS rebinding).

    Args:
        headers: Of the request.
        access: Who may ask.
    """
    host = headers.get("host", "")
    if access.hosts is not None and _name(f"//{host}") not in access.hosts:
        return f"the server does not answer as {host!r}: start it with --allow-host if it should."
    origin = headers.get("origin")
    if origin is not None and origin not in access.origins and origin.partition("://")[2] != host:
        return f"pages of {origin!r} may not call: start the server with --allow-origin if they should."
    return None


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
