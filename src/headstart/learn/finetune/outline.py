"""What a network looks like group by group, what fine-tuning would learn in it, and how far it has moved that."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from headstart.core import artifact
from headstart.core.errors import ModelError
from headstart.learn.finetune.settings import Unfreeze
from headstart.learn.finetune.unfreezing import apply_phase, plan
from headstart.networks import Row, freeze, head_rows, load_backbone, summary


@dataclass(frozen=True)
class Outline:
    """A network.

    Attributes:
        rows: One for each group of layers.
        moved: By group, how far fine-tuning moved it (norm of the change over norm of what was there); empty where no
            fine-tuning was kept.
    """

    rows: tuple[Row, ...]
    moved: dict[str, float] = field(default_factory=dict)


def of_backbone(
    name: str,
    unfreeze: Unfreeze | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    pooling: str | None = None,
) -> Outline:
    """Return the outline of a pretrained backbone; its weights are not loaded.

    Args:
        name: Of the backbone.
        unfreeze: What learns; of a gradual schedule all that does in some phase. None: nothing.
        image_size: Side, or (height, width), in pixels; None: the backbone's own.
        pooling: `avg`, `max`, `flatten` or `token`; None: the backbone's own.

    Raises:
        SettingError: There is no such backbone, stage or pooling, or it cannot have this size.
    """
    backbone = load_backbone(name, image_size=image_size, pooling=pooling, blank=True)
    freeze(backbone.network)
    if unfreeze is not None:
        apply_phase(backbone, plan(backbone, unfreeze).everything(), batch_norm="frozen")
    return Outline(summary(backbone))


def of_model(folder: Path, unfreeze: Unfreeze | None = None) -> Outline:
    """Return the outline of a saved model, the layers of its head the last groups.

    Args:
        folder: The model folder.
        unfreeze: What fine-tuning would learn; None: what it has learned.

    Raises:
        ModelError: There is no such model, or it is damaged.
        SettingError: There is no such stage.
    """
    said = artifact.read_description(folder)
    try:
        backbone, tuned = said["backbone"], said.get("finetuning") or {}
        kept = bool((tuned.get("gain") or {}).get("kept"))
        if unfreeze is None and kept:
            unfreeze = said["head"]["chosen"]["unfreeze"]
        moved = {row["stage"]: float(row["moved"]) for row in tuned.get("moved") or ()} if kept else {}
        height, width = said["preprocessing"]["image_size"]
        pooling = backbone["pooling"] if backbone["pooling"] != "own" else None
        below = of_backbone(backbone["name"], unfreeze, image_size=(height, width), pooling=pooling).rows
        return Outline((*below, *head_rows(said["head"]["layers"], below[-1].output_shape[0])), moved)
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / artifact.DESCRIPTION} does not say {error}: fit the model again.") from error
