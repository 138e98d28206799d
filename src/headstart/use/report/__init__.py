"""`report.html`: how good a model is, how sure that is, what it gets wrong, and how it was made."""

from __future__ import annotations

from headstart.use.report.find import Finder
from headstart.use.report.material import Material, of_evaluation, of_fit, of_model
from headstart.use.report.page import FILE, finish, report

__all__ = ["FILE", "Finder", "Material", "finish", "of_evaluation", "of_fit", "of_model", "report"]
