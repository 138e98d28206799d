"""The doctor's page: what `headstart check` found, with the pictures."""

from __future__ import annotations

from headstart.use.doctor.page import write_page

__all__ = ["write_page"]
