"""A `Checkup` as one self-contained HTML file with thumbnails."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headstart.core.errors import ImageError
from headstart.core.findings import KINDS, Checkup, Kind, Suspect, sort_kinds
from headstart.core.machine import cores
from headstart.core.pipeline import map_ordered
from headstart.use.page import check_page, render, save_page, thumbnail_uri

# Pictures of a kind that are shown at once, and those that can be unfolded; the others are a list of names.
SHOWN, UNFOLDED = 12, 60
# Others of a suspect that are shown beside it.
BESIDE = 2


@dataclass(frozen=True)
class Shown:
    """A suspect with what the page shows of it: addresses of thumbnails (None: unreadable) and short names."""

    suspect: Suspect
    name: str
    address: str | None
    others: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Section:
    """One kind of finding on the page."""

    key: str
    kind: Kind
    shown: tuple[Shown, ...]
    unfolded: tuple[Shown, ...]
    listed: tuple[tuple[str, Suspect], ...]
    count: int


def write_page(checkup: Checkup, file: Path) -> None:
    """Write the page.

    Args:
        checkup: What was found.
        file: The HTML file; an older one is replaced.

    Raises:
        SettingError: It cannot be written there, or is no HTML file by its name.
    """
    check_page(file)
    save_page(page(checkup), file)


def page(checkup: Checkup) -> str:
    """Return the page's HTML."""
    base = _common_folder(checkup)
    pictures = _thumbnails(_wanted(checkup))
    sections = [_section(key, suspects, base, pictures) for key, suspects in checkup.findings.items() if suspects]
    parts = [part for part in ("train", "validation", "test") if checkup.report["counts"][part]]
    return render(
        "doctor.html",
        Path(__file__).parent,
        checkup=checkup,
        name=Path(checkup.source).name or checkup.source,
        sections=sections,
        clean=[KINDS[key] for key, suspects in checkup.findings.items() if not suspects],
        unsought=[kind for key, kind in KINDS.items() if key not in checkup.findings],
        parts=parts,
        totals={name: sum(counts.values()) for name, counts in checkup.classes.items()},
        suspected=len({s.path for suspects in checkup.findings.values() for s in suspects}),
        share=_share,
        source=shlex.quote(checkup.source),
        **dict(zip(("certain", "judged"), sort_kinds([one.key for one in sections]), strict=True)),
    )


def _section(key: str, suspects: tuple[Suspect, ...], base: str, pictures: dict[str, str | None]) -> Section:
    def show(suspect: Suspect) -> Shown:
        others = tuple((_short(path, base), pictures.get(path)) for path in suspect.others[:BESIDE])
        return Shown(suspect, _short(suspect.path, base), pictures.get(suspect.path), others)

    return Section(
        key=key,
        kind=KINDS[key],
        shown=tuple(map(show, suspects[:SHOWN])),
        unfolded=tuple(map(show, suspects[SHOWN:UNFOLDED])),
        listed=tuple((_short(suspect.path, base), suspect) for suspect in suspects[UNFOLDED:]),
        count=len(suspects),
    )


def _wanted(checkup: Checkup) -> Iterator[str]:
    for suspects in checkup.findings.values():
        for suspect in suspects[:UNFOLDED]:
            yield suspect.path
            yield from suspect.others[:BESIDE]


def _thumbnails(paths: Iterable[str]) -> dict[str, str | None]:
    """Return the thumbnail of each picture, None where it cannot be read."""
    distinct = list(dict.fromkeys(paths))
    return dict(zip(distinct, map_ordered(_thumbnail, distinct, cores()), strict=True))


def _thumbnail(path: str) -> str | None:
    try:
        return thumbnail_uri(path)
    except ImageError:
        return None


def _common_folder(checkup: Checkup) -> str:
    paths = [suspect.path for suspects in checkup.findings.values() for suspect in suspects]
    folder = checkup.source if os.path.isdir(checkup.source) else os.path.dirname(checkup.source)
    return folder if all(path.startswith(folder + os.sep) for path in paths) else ""


def _short(path: str, base: str) -> str:
    return os.path.relpath(path, base) if base else path


def _share(value: float) -> str:
    """Return a share as people read it, such as `96.5 %`."""
    return f"{100 * value:.1f} %"
