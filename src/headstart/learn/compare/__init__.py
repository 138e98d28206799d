"""Backbones, heads and methods on the same splits of the same pictures: which to take, and how sure that is."""

from __future__ import annotations

from headstart.learn.compare.run import compare
from headstart.learn.compare.scatter import draw_comparison

__all__ = ["compare", "draw_comparison"]
