"""Templates -> one self-contained HTML file, every value escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.core.text import shown_lines

SHARED = Path(__file__).parent / "templates"


def render(template: str, folder: Path, **values: Any) -> str:
    """Return the page of a template.

    Every value is escaped for HTML (`autoescape`), a missing one is an error rather than a gap, and text that cannot
    be printed (file names that are not UTF-8, control characters) is shown escaped. `base.html`, `style.css` and
    `parts.html` stand beside the template's own files.

    Args:
        template: File name of the template, such as `doctor.html`.
        folder: Where it is.
        values: What it shows.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _printable(value: Any) -> Any:
    """Return text with its lines kept and all else that cannot be printed escaped; other values as they are."""
    if type(value) is not str or value.isprintable():  # what the template has marked as safe is another type
        return value
    return shown_lines(value)
