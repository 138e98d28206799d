"""The hourglass of docs/decisions/0002-layers.md, checked: imports run towards core, and core stays light."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "headstart"

# layer -> the layers it may import; the package face (`__init__`, `__main__`, `face`) and cli see all
MAY_IMPORT = {
    "core": {"core"},
    "networks": {"core", "networks"},
    "learn": {"core", "networks", "learn"},
    "use": {"core", "networks", "use"},
    "cli": {"core", "networks", "learn", "use", "cli"},  # and the package face
}
# What nothing in a layer may import, not even inside a function: predicting needs no torch.
NEVER = {"core": {"torch", "torchvision", "timm"}}
# What a layer may import inside functions only, as each costs a command up to seconds of its start.
NOT_AT_THE_TOP = {layer: {"torch", "torchvision", "timm", "sklearn", "pandas", "scipy"} for layer in ("core", "cli")}


class Import(NamedTuple):
    """An imported module or name with its dots, whether it runs when the file is imported, and the line."""

    name: str
    at_the_top: bool
    line: int


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Yield what a file of `package` imports; `from a import b` counts as both `a` and `a.b`."""
    stack: list[tuple[ast.AST, bool]] = [(tree, True)]
    while stack:
        node, top = stack.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, top, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield Import(base, top, node.lineno)
            yield from (Import(f"{base}.{alias.name}", top, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield Import(str(first.value), top, node.lineno)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            stack += [(child, False) for child in node.body] + [(child, top) for child in node.orelse]
        else:
            stack += [(child, top and not inside) for child in ast.iter_child_nodes(node)]


def problems(source: Path) -> list[str]:
    """Return one line for every import or word under `source` that the layers forbid."""
    found = []
    for path in sorted(source.rglob("*.py")):
        where = path.relative_to(source)
        layer = where.parts[0] if len(where.parts) > 1 else "face"
        package = ".".join(["headstart", *where.parts[:-1]])
        text = path.read_text(encoding="utf-8")
        for name, top, line in imports(ast.parse(text), package):
            reason = _forbidden(layer, name, top)
            if reason:
                found.append(f"{where}:{line}: {reason}")
        found += [f"{where}:{line}: the word 'ray' belongs to a layer of its own" for line in _lines_with_ray(text)]
    return found


def _forbidden(layer: str, name: str, top: bool) -> str | None:
    root, *rest = name.split(".")
    if root in NEVER.get(layer, ()):
        return f"{layer} imports {root}, which it never may"
    if top and root in NOT_AT_THE_TOP.get(layer, ()):
        return f"{layer} imports {root} at the top: import it inside the function that needs it"
    if root != "headstart" or layer in ("face", "cli") or not rest:
        return None
    if rest[0] not in MAY_IMPORT:
        return None if rest[0] in ("__version__", "__main__") else f"{layer} imports {name} through the package face"
    return None if rest[0] in MAY_IMPORT[layer] else f"{layer} imports {name}: the arrow runs the wrong way"


def _lines_with_ray(text: str) -> Iterator[int]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # An X-ray picture is not the cluster library; an array is another word.
        if re.search(r"(?<![\w-])ray(?!\w)", token.string, re.IGNORECASE):
            yield token.start[0]


def circles(layer: Path) -> list[str]:
    """Return one line for each package of a layer to which its own imports lead back, by whatever way."""
    imported: dict[str, dict[str, str]] = {}
    parts = {path.name.removesuffix(".py") for path in layer.iterdir()}
    for path in sorted(layer.rglob("*.py")):
        where = path.relative_to(layer)
        part = where.parts[0].removesuffix(".py")
        package = ".".join(["headstart", layer.name, *where.parts[:-1]])
        for name, _, line in imports(ast.parse(path.read_text(encoding="utf-8")), package):
            other = name.removeprefix(f"headstart.{layer.name}.").split(".")[0]
            if name.startswith(f"headstart.{layer.name}.") and other in parts - {part}:
                imported.setdefault(part, {}).setdefault(other, f"{where}:{line}")
    found = []
    for package in sorted(path.name for path in layer.iterdir() if path.is_dir()):
        ways = [[package]]
        reached: set[str] = set()
        for way in ways:  # grows meanwhile: the shortest ways come first
            for other, where in imported.get(way[-1], {}).items():
                if other == package:
                    found.append(f"{where}: {' -> '.join([*way, other])}")
                if other not in reached:
                    reached.add(other)
                    ways.append([*way, other])
    return found


def test_every_import_of_the_package_runs_towards_core() -> None:
    assert list(SOURCE.rglob("*.py")), f"no source in {SOURCE}"
    assert problems(SOURCE) == []


def test_no_import_of_a_package_of_learn_leads_back_to_it() -> None:
    assert circles(SOURCE / "learn") == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/x.py": "from headstart.learn.b import y", "b/y.py": "from headstart.learn import a"}, "a -> b -> a"),
        ({"a/x.py": "from ..b import y", "b/y.py": "def f():\n    from headstart.learn.a import x"}, "b -> a -> b"),
        (
            {"a/x.py": "from headstart.learn import c", "c.py": "if TYPE_CHECKING:\n    import headstart.learn.a.x"},
            "a -> c -> a",
        ),
        ({"a/x.py": "import headstart.learn.b.y", "b/y.py": "from headstart.learn.a.x import Y"}, "a -> b -> a"),
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        (tmp_path / "learn" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "learn" / name).write_text(text)
    assert any(line.endswith(f": {expected}") for line in circles(tmp_path / "learn"))


def test_packages_that_import_one_way_and_files_of_one_package_are_left_alone(tmp_path: Path) -> None:
    for name, text in {
        "a/x.py": "from headstart.learn.a import y\nfrom headstart.learn.b import z\nfrom headstart.learn import c",
        "a/y.py": "from headstart.learn.a.x import X",
        "b/z.py": "from headstart.core import errors\nfrom headstart.learn import c",
        "c.py": "import numpy",
    }.items():
        (tmp_path / "learn" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "learn" / name).write_text(text)
    assert circles(tmp_path / "learn") == []


def test_every_file_of_the_package_is_in_a_known_layer() -> None:
    tops = {path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")}
    assert tops <= {*MAY_IMPORT, "__init__.py", "__main__.py", "classifier.py", "face.py"}


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("core/a.py", "from headstart.learn import dataset", "core imports headstart.learn"),
        ("core/a.py", "import headstart.use.report", "core imports headstart.use.report"),
        ("core/a.py", "from headstart import cli", "core imports headstart.cli"),
        ("core/a.py", "from headstart import ImageClassifier", "through the package face"),
        ("core/a.py", "from .. import learn", "core imports headstart.learn"),
        ("core/deep/a.py", "from ...learn.dataset import Dataset", "core imports headstart.learn.dataset"),
        ("core/a.py", "def f():\n    from headstart.learn import dataset", "core imports headstart.learn"),
        ("core/a.py", "import importlib\nimportlib.import_module('headstart.learn.heads')", "headstart.learn.heads"),
        ("core/a.py", "if TYPE_CHECKING:\n    from headstart.use import report", "core imports headstart.use"),
        ("core/a.py", "from headstart.networks import load_backbone", "core imports headstart.networks"),
        ("networks/a.py", "from headstart.learn import heads", "networks imports headstart.learn"),
        ("learn/a.py", "from headstart.use import report", "learn imports headstart.use"),
        ("learn/a.py", "from headstart.cli import main", "learn imports headstart.cli"),
        ("use/a.py", "from headstart.learn import classifier", "use imports headstart.learn"),
        ("use/a.py", "import headstart.cli", "use imports headstart.cli"),
        ("core/a.py", "import torch", "which it never may"),
        ("core/a.py", "def f():\n    import torch.nn as nn", "which it never may"),
        ("core/a.py", "if TYPE_CHECKING:\n    from torch import nn", "which it never may"),
        ("core/a.py", "from sklearn.metrics import f1_score", "core imports sklearn at the top"),
        ("core/a.py", "try:\n    import scipy.stats\nexcept ImportError:\n    pass", "core imports scipy at the top"),
        ("core/a.py", "class A:\n    import pandas", "core imports pandas at the top"),
        ("cli/a.py", "import torch", "cli imports torch at the top"),
        ("cli/a.py", "import timm", "cli imports timm at the top"),
        ("learn/a.py", "engine = 'ray'", "the word 'ray'"),
        ("learn/a.py", "import ray", "the word 'ray'"),
        ("learn/a.py", "# runs on Ray, too", "the word 'ray'"),
        ("use/a.py", "def f(ray):\n    pass", "the word 'ray'"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, text: str, expected: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(parents=True)
    planted.write_text(text)
    found = problems(tmp_path)
    assert found
    assert all(line.startswith(f"{file}:") for line in found)
    assert any(expected in line for line in found)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("__init__.py", "from headstart.learn.classifier import ImageClassifier"),
        ("__main__.py", "from headstart.cli import main"),
        (
            "cli/fit.py",
            "from headstart.learn import dataset\nfrom headstart.use import report\nfrom headstart import load",
        ),
        ("core/a.py", "from headstart.core.errors import DataError\nfrom headstart import __version__\nimport numpy"),
        ("core/a.py", "from . import errors\nfrom .errors import DataError"),
        ("core/a.py", "def f():\n    import sklearn.metrics"),
        ("core/a.py", "if TYPE_CHECKING:\n    import pandas as pd"),
        ("learn/heads/a.py", "import torch\nfrom ..dataset import Dataset\nfrom headstart.core import images"),
        ("use/a.py", "from headstart.core.predictor import Predictor"),
        ("learn/a.py", "# an array of X-ray pictures, their rays and arrays\nnp.array(1)"),
    ],
)
def test_an_allowed_import_is_left_alone(tmp_path: Path, file: str, text: str) -> None:
    written = tmp_path / file
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(text)
    assert problems(tmp_path) == []
