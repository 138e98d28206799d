"""Recipes: the tutorials that people know, each a TOML file with `ImageClassifier`'s own parameter names.

A file begins with a comment: one sentence, an empty line, then `Source:`, `Command:`, `Cost:`, `Expected:` and
`Differs:`, each of which may go over several lines. No torch here, so that listing is immediate.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from headstart.core.errors import unknown_name

LABELS = ("Source", "Command", "Cost", "Expected", "Differs")


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Attributes:
        name: What `--recipe` takes.
        title: What it does, one sentence.
        about: The labelled parts of the comment, by label.
        text: The whole file.
        parameters: Parameters of `ImageClassifier` by name, as TOML gives them.
    """

    name: str
    title: str
    about: dict[str, str]
    text: str
    parameters: dict[str, Any]


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        SettingError: There is no such recipe; the message has the nearest names.
    """
    if name not in recipe_names():
        raise unknown_name("recipe", name, recipe_names(), "`headstart recipes`")
    text = resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    header = re.match(r"(?:#.*\n)+", text)
    lines = [line.lstrip("#").strip() for line in (header[0] if header else "").splitlines()]
    return Recipe(name, lines[0] if lines else "", _labelled(lines), text, tomllib.loads(text))


def _labelled(lines: list[str]) -> dict[str, str]:
    about: dict[str, str] = {}
    label = ""
    for line in lines[1:]:
        start, colon, rest = line.partition(":")
        if colon and start in LABELS:
            label, line = start, rest
        if label and line:
            about[label] = f"{about.get(label, '')} {line.strip()}".strip()
    return about
