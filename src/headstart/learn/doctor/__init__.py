"""The doctor: what is wrong with labelled pictures, and a manifest without it."""

from __future__ import annotations

from headstart.learn.doctor.examine import examine
from headstart.learn.doctor.manifest import write_clean_manifest

__all__ = ["examine", "write_clean_manifest"]
