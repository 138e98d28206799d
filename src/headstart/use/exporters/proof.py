"""Whether an exported model says what the original says, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headstart.core.errors import ExportError
from headstart.core.predictor import Predictor
from headstart.use.exporters.contract import Exported, Number

_SHOWN = 20


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from the original.

    Attributes:
        probability: The largest difference of any probability that counts as the same.
        share: Of ordinary pictures, how many must have the same label and probabilities within that. Odd pictures are
            of one gradient and stand or fall together, so they count only where all must be the same.
    """

    probability: float
    share: float


TOLERANCES: dict[Number, Tolerance] = {
    "float32": Tolerance(1e-4, 1.0),
    "float16": Tolerance(0.02, 1.0),
    "int8": Tolerance(0.25, 0.9),
}


@dataclass(frozen=True)
class Difference:
    """A picture of which the export says something else: label and its probability, before and after."""

    picture: str
    before: tuple[str, float]
    after: tuple[str, float]
    largest: float


@dataclass(frozen=True)
class Proof:
    """What was compared and how near it was.

    Attributes:
        ordinary, odd: How many pictures of each kind.
        same_label: How many of them have the same label.
        largest: The largest difference of a probability.
        mean: Mean over the pictures of each one's largest difference.
        features: The smallest cosine of original and exported features; None where the export gives none.
        novelty: The largest difference of novelty, relative to the original's spread; None where there is none.
        unknown_changed: How many pictures are on the other side of the model's novelty threshold; None without one.
        engine: What ran the export.
    """

    ordinary: int
    odd: int
    same_label: int
    largest: float
    mean: float
    features: float | None
    novelty: float | None
    unknown_changed: int | None
    engine: str


def prove(
    predictor: Predictor,
    exported: Exported,
    ordinary: Mapping[str, bytes],
    odd: Mapping[str, bytes],
    tolerance: Tolerance,
) -> Proof:
    """Compare an export with the original.

    A label may change only between classes that the original holds for equally probable, within the tolerance.

    Args:
        predictor: The original.
        exported: The export, read back from its folder.
        ordinary: Picture files by name, such as the user's.
        odd: Files of odd kinds by name.
        tolerance: How far the export may be off.

    Raises:
        ExportError: It says something else; the message has a table of it.
    """
    _same_meaning(predictor, exported)
    names, pictures = [*ordinary, *odd], [*ordinary.values(), *odd.values()]
    seen = [predictor.preprocessing.load(data) for data in pictures]
    before = _run(predictor, seen)
    after = exported.outputs(pictures)
    _same_outputs(before, after)
    p, q = before["probabilities"], after["probabilities"]
    largest = np.abs(p - q).max(axis=1)
    rows, best, other = np.arange(len(p)), p.argmax(axis=1), q.argmax(axis=1)
    tied = p[rows, best] - p[rows, other] <= tolerance.probability
    # Written so that a value that is not a number counts as different.
    wrong = ~((largest <= tolerance.probability) & ((best == other) | tied))
    judged = wrong if tolerance.share == 1 else wrong[: len(ordinary)]
    if not np.isfinite(q).all() or judged.mean() > 1 - tolerance.share + 1e-9:
        raise ExportError(_table(names, predictor.classes, p, q, np.flatnonzero(wrong), tolerance))
    novelty, unknown_changed = _compare_novelty(predictor, before, after, tolerance)
    return Proof(
        len(ordinary),
        len(odd),
        int((best == other).sum()),
        float(largest.max()),
        float(largest.mean()),
        _smallest_cosine(before["features"], after["features"]) if "features" in after else None,
        novelty,
        unknown_changed,
        exported.engine,
    )


def _same_meaning(predictor: Predictor, exported: Exported) -> None:
    """Compare what the export says of itself with what the original says."""
    said = exported.description
    wanted = {
        "classes": list(predictor.classes),
        "preprocessing": predictor.preprocessing.to_json(),
        "confidence": predictor.description.get("confidence"),
    }
    for name, value in wanted.items():
        if said.get(name) != value:
            raise ExportError(
                f"the export says that {name} are {said.get(name)!r}, and the original says {value!r}: nothing was "
                "written. Please report this."
            )


def _same_outputs(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    """Compare the names and shapes of what original and export give."""
    lacking = sorted(set(before) - set(after)) if "features" in after else []
    if lacking or after["probabilities"].shape != before["probabilities"].shape:
        raise ExportError(
            f"the export gives {', '.join(after)} of shape {after['probabilities'].shape}, and the original gives "
            f"{', '.join(before)} of shape {before['probabilities'].shape}: nothing was written. Please report this."
        )


def _compare_novelty(
    predictor: Predictor, before: dict[str, np.ndarray], after: dict[str, np.ndarray], tolerance: Tolerance
) -> tuple[float | None, int | None]:
    """Return `novelty` and `unknown_changed` of the proof, where both give a novelty."""
    if "novelty" not in before or "novelty" not in after:
        return None, None
    was, now = before["novelty"], after["novelty"]
    largest = float(np.abs(was - now).max())
    if tolerance.share == 1 and not largest <= 10 * tolerance.probability:  # also when it is not a number
        raise ExportError(
            f"the export's novelty differs by {largest:.2g}, where {10 * tolerance.probability:g} is allowed: nothing "
            "was written. Please report this."
        )
    threshold = (predictor.description.get("confidence") or {}).get("novelty", {}).get("threshold")
    changed = None if threshold is None else int(((was > threshold) != (now > threshold)).sum())
    return largest / max(1e-9, float(was.std())), changed


def _run(predictor: Predictor, seen: list[np.ndarray]) -> dict[str, np.ndarray]:
    from headstart.core.runtime import Network

    network = Network(predictor.network_file)  # float32, whatever the predictor was loaded in
    parts = [network.run(np.stack(seen[start : start + 4])) for start in range(0, len(seen), 4)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _smallest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def _table(
    names: list[str],
    classes: tuple[str, ...],
    before: np.ndarray,
    after: np.ndarray,
    wrong: np.ndarray,
    tolerance: Tolerance,
) -> str:
    order = sorted(wrong.tolist(), key=lambda row: -float(np.nan_to_num(np.abs(before[row] - after[row]), nan=9).max()))
    lines = [("picture", "original", "export", "largest difference")]
    for row in order[:_SHOWN]:
        told = [f"{classes[values.argmax()]} {values.max():.4f}" for values in (before[row], after[row])]
        lines.append((names[row], told[0], told[1], f"{np.abs(before[row] - after[row]).max():.2g}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    table = "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    more = f"\n… and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
    return (
        f"the export says something else on {len(wrong):,} of {len(names):,} pictures (allowed: another probability "
        f"by {tolerance.probability:g}, on {100 * (1 - tolerance.share):.0f} %): nothing was written.\n{table}{more}"
    )
