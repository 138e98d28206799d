"""The odd pictures of the design, which exports are proved on too; see `headstart.use.exporters.odd`."""

from __future__ import annotations

from headstart.use.exporters.odd import encoded, gradient, odd_pictures

__all__ = ["encoded", "gradient", "odd_pictures"]
