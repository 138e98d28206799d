"""Writing a page: checked before the work, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from headstart.core.errors import SettingError
from headstart.core.replacing import new_file


def check_page(file: Path) -> None:
    """Check that a page can be written there.

    Raises:
        SettingError: The name does not end in `.html`, or its folder is missing.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise SettingError(f"the page {file} does not end in .html: name it so.")
    if not file.parent.is_dir():
        raise SettingError(f"the folder {file.parent} for the page does not exist. Make it first.")


def save_page(text: str, file: Path) -> None:
    """Write a page; an older one is replaced.

    Raises:
        SettingError: It cannot be written there, or is no HTML file by its name.
    """
    check_page(file)
    try:
        with new_file(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{file} cannot be written: {error.strerror}. Name another place.") from error
