"""Which layers learn: from "the last four" or "blocks.6" to a cut and the modules above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from headstart.core.errors import SettingError, unknown_name
from headstart.learn.finetune.settings import Unfreeze, check_unfreeze
from headstart.learn.kinds import is_whole
from headstart.networks import freeze, unfreeze

if TYPE_CHECKING:
    from headstart.networks import Backbone

ALL, HEAD = "all", "head"
POOL = "pool"


@dataclass(frozen=True)
class Phase:
    """From an epoch on, these modules of `backbone.network` learn, and the head.

    Attributes:
        epoch: The first epoch of the phase, from 0.
        modules: Dotted names within `backbone.network`; none where only the head learns.
    """

    epoch: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Where the network is cut, and what learns above the cut.

    Attributes:
        cut: The lowest stage in which anything will learn; all below it stays frozen and is computed once.
        phases: One for a fixed choice, several for a gradual schedule, in order of epochs.
        epochs: How many epochs the plan asks for, or None.
    """

    cut: str
    phases: tuple[Phase, ...]
    epochs: int | None = None

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch is in."""
        return [phase for phase in self.phases if phase.epoch <= epoch][-1]

    def modules(self) -> frozenset[str]:
        """Return all modules that learn in some phase."""
        return frozenset(name for phase in self.phases for name in phase.modules)

    def everything(self) -> Phase:
        """Return all that learns in some phase as one: a schedule may freeze again what it has unfrozen."""
        return Phase(0, tuple(sorted(self.modules())))


def plan(backbone: Backbone, wanted: Unfreeze) -> Plan:
    """Return the plan for an `unfreeze` setting.

    Raises:
        SettingError: There is no such stage, or not so many layers; the message names what there is.
    """
    check_unfreeze(wanted)
    if isinstance(wanted, (list, tuple)):
        return _gradual(backbone, list(wanted))
    modules = _modules(backbone, wanted)
    return Plan(_cut(backbone, modules), (Phase(0, modules),))


def apply_phase(backbone: Backbone, phase: Phase, *, batch_norm: str) -> None:
    """Freeze the whole network but the modules of the phase.

    Args:
        backbone: Its network is changed in place.
        phase: What learns.
        batch_norm: `frozen` keeps normalisation statistics (not scales and shifts) where they are there too.
    """
    freeze(backbone.network)
    for name in phase.modules:
        module = unfreeze(backbone.network.get_submodule(name))
        if batch_norm == "frozen":
            for part in module.modules():
                if _has_statistics(part):
                    freeze(part)
                    for parameter in part.parameters():
                        parameter.requires_grad_(True)


def frozen_tensors(backbone: Backbone, layers: Plan, *, batch_norm: str) -> dict[str, torch.Tensor]:
    """Return the tensors of the network that no phase may change, by name: parameters and statistics.

    Args:
        backbone: Its tensors are returned, not copies of them.
        layers: What learns when.
        batch_norm: As in `apply_phase`; `frozen` statistics of unfrozen layers are among the tensors.
    """
    network, learning = backbone.network, layers.modules()
    buffers = {name for name, _ in network.named_buffers()}
    frozen = {}
    for name, tensor in network.state_dict().items():
        owner = name.rpartition(".")[0]
        parents = {owner} | {owner[:i] for i, letter in enumerate(owner) if letter == "."}
        moves = name not in buffers or (batch_norm == "train" and _has_statistics(network.get_submodule(owner)))
        if not (moves and parents & learning):
            frozen[name] = tensor
    return frozen


def module_name(stage: str) -> str:
    """Return the name of a stage's module within `backbone.network`; torch forbids dots in it."""
    return stage.replace(".", "_")


def _has_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None


def _modules(backbone: Backbone, wanted: int | str) -> tuple[str, ...]:
    """Return the modules that a stage name, `all`, `head` or a number of layers means."""
    stages = backbone.stages
    if isinstance(wanted, str) and wanted.strip().isdigit():
        wanted = int(wanted)
    if is_whole(wanted):
        return _last_layers(backbone, int(wanted))
    if wanted == HEAD:
        return ()
    if wanted not in (ALL, *stages):
        raise unknown_name(
            f"stage of {backbone.name}", wanted, (*stages, ALL, HEAD), f"`headstart summary {backbone.name}`"
        )
    first = 0 if wanted == ALL else stages.index(wanted)
    return (*(module_name(name) for name in stages[first:]), POOL)


def _last_layers(backbone: Backbone, number: int) -> tuple[str, ...]:
    """The last layers that have parameters of their own, as `model.layers[-n:]` in Keras."""
    layers = [
        name
        for name, module in backbone.network.named_modules()
        if name and any(True for _ in module.parameters(recurse=False))
    ]
    if not 1 <= number <= len(layers):
        raise SettingError(
            f"unfreeze is {number}, but {backbone.name} has {len(layers)} layers with parameters: give 1 to "
            f"{len(layers)}, or a stage name (`headstart summary {backbone.name}`)."
        )
    return tuple(layers[-number:])


def _cut(backbone: Backbone, modules: tuple[str, ...]) -> str:
    """Return the lowest stage with one of the modules in it; the last one where there is none."""
    learning = {name.split(".")[0] for name in modules}
    return next((stage for stage in backbone.stages if module_name(stage) in learning), backbone.stages[-1])


def _gradual(backbone: Backbone, pairs: list[Any]) -> Plan:
    phases: list[Phase] = []
    epoch = 0
    for layers, epochs in pairs:
        phases.append(Phase(epoch, _modules(backbone, layers)))
        epoch += epochs
    lowest = min((_cut(backbone, phase.modules) for phase in phases), key=backbone.stages.index)
    return Plan(lowest, tuple(phases), epochs=epoch)
