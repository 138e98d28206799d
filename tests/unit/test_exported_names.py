"""The public names are one short list; whoever changes it changes this file too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import headstart

PUBLIC = [
    "FeatureExtractor",
    "HeadstartError",
    "ImageClassifier",
    "Predictor",
    "Preprocessing",
    "__version__",
    "evaluate",
    "explain",
    "export",
    "extract_features",
    "load",
    "load_backbone",
    "read_dataset",
]


def test_the_public_names_are_these_and_at_most_a_dozen_beside_the_version() -> None:
    assert headstart.__all__ == PUBLIC
    assert len(set(PUBLIC) - {"__version__"}) <= 12


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_can_be_had_and_is_listed(name: str) -> None:
    assert getattr(headstart, name) is getattr(headstart, name)
    assert name in dir(headstart)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_each_public_name_is_the_object_of_its_home(name: str) -> None:
    public = getattr(headstart, name)
    assert public.__name__ == name
    assert public.__module__.startswith(headstart._HOMES[name])


def test_what_a_type_checker_sees_is_what_is_loaded() -> None:
    tree = ast.parse(Path(headstart.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == headstart._HOMES
    assert {*declared, "__version__"} == set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'headstart' has no attribute 'Classifier'"):
        headstart.Classifier  # noqa: B018


def test_the_version_has_three_numbers_and_heads_the_change_log() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", headstart.__version__)
    log = (Path(__file__).resolve().parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", log, re.MULTILINE)
    assert headstart.__version__ in headings[:2]
