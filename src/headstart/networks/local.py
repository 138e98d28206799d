"""Finding weight files on this machine: the cache folder, pip packages, the hub's own cache. No network, no torch."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from headstart.core.settings import cache_folder
from headstart.networks.entries import Package

# What a weight file may be; the first found in the cache folder is taken.
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".onnx")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Found:
    """A weight file on this machine: its path, where it comes from, and the digest it must have, if pinned."""

    file: Path
    source: str
    sha256: str | None = None


def find_local(
    name: str, *, repository: str | None = None, package: Package | None = None, files: tuple[str, ...] = HUB_FILES
) -> Found | None:
    """Return the weights of a backbone that are on this machine: cache folder, then pip package, then hub cache.

    Args:
        name: The backbone's name; the cache folder holds `weights/<name>.safetensors`.
        repository: Hub repository, such as `timm/resnet18.tv_in1k`.
        package: The pip package that carries the weights.
        files: Names that the file may have in the repository, best first.
    """
    for suffix in SUFFIXES:
        file = weights_folder() / f"{name}{suffix}"
        if file.is_file():
            return Found(file, f"cache ({file.name})")
    if package is not None and (folder := _package_folder(package.folder)) is not None:
        file = folder / package.file
        if file.is_file():
            return Found(file, f"package {package.name}", package.sha256)
    if repository is not None and (cached := _in_hub_cache(repository, files)) is not None:
        return Found(cached, f"hub {repository}")
    return None


def weights_folder() -> Path:
    """Return the folder in which weight files of the user's own are looked for."""
    return cache_folder() / "weights"


def hub_cache() -> Path:
    """Return the folder in which the hub's own library keeps what it fetched (its documented variables)."""
    if named := os.environ.get("HF_HUB_CACHE"):
        return Path(named).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "huggingface" / "hub"


def _package_folder(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _in_hub_cache(repository: str, files: tuple[str, ...]) -> Path | None:
    home = hub_cache() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (home / "refs" / "main").read_text().strip()
    except OSError:
        return None
    for name in files:
        file = home / "snapshots" / commit / name
        if file.is_file():
            return file
    return None
