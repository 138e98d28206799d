"""Whether an exported model says what the original says, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headstart.core.answers import Answer, Thresholds, answer
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
class Proof:
    """What was compared and how near it was.

    Attributes:
        ordinary, odd: How many pictures of each kind.
        same_label: How many of them have the same label, or the same labels where a picture has several.
        largest: The largest difference of a probability.
        mean: Mean over the pictures of each one's largest difference.
        features: The smallest cosine of original and exported features; None where the export gives none.
        novelty: The largest difference of novelty, relative to the original's spread; None where there is none.
        sets_changed: How many pictures have another prediction set; None where the model has none.
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
    sets_changed: int | None
    unknown_changed: int | None
    engine: str


def prove(
    predictor: Predictor,
    exported: Exported,
    ordinary: Mapping[str, bytes],
    odd: Mapping[str, bytes],
    tolerance: Tolerance,
) -> Proof:
    """Compare an export with the original: what it computes, and what people are told by it.

    A label may change only between classes that the original holds for equally probable, within the tolerance; where
    pictures have several labels, only one whose probability is that near to its threshold.

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
    said = _answers(before, predictor.classes, predictor.thresholds)
    says = _answers(after, tuple(exported.description["classes"]), Thresholds.of(exported.description))
    same = np.array([_named(one) == _named(other) for one, other in zip(said, says, strict=True)])
    near = _near(p, q, predictor.thresholds.labels, tolerance.probability)
    # Written so that a value that is not a number counts as different.
    wrong = ~((largest <= tolerance.probability) & (same | near))
    judged = wrong if tolerance.share == 1 else wrong[: len(ordinary)]
    if not np.isfinite(q).all() or judged.mean() > 1 - tolerance.share + 1e-9:
        raise ExportError(_table(names, (said, says), (p, q), np.flatnonzero(wrong), tolerance))
    novelty = _compare_novelty(before, after, tolerance)
    sets = [one.prediction_set != other.prediction_set for one, other in zip(said, says, strict=True)]
    unknown = [one.unknown != other.unknown for one, other in zip(said, says, strict=True)]
    return Proof(
        len(ordinary),
        len(odd),
        int(same.sum()),
        float(largest.max()),
        float(largest.mean()),
        _smallest_cosine(before["features"], after["features"]) if "features" in after else None,
        novelty,
        None if predictor.thresholds.set_probability is None else sum(sets),
        None if novelty is None or predictor.thresholds.novelty is None else sum(unknown),
        exported.engine,
    )


def _answers(outputs: dict[str, np.ndarray], classes: tuple[str, ...], thresholds: Thresholds) -> list[Answer]:
    """Return what people are told of each picture."""
    novelty = outputs["novelty"].tolist() if "novelty" in outputs else [None] * len(outputs["probabilities"])
    return [
        answer(probabilities, value, classes, thresholds)
        for probabilities, value in zip(outputs["probabilities"], novelty, strict=True)
    ]


def _named(one: Answer) -> tuple[str, ...]:
    """Return the label, or the labels in an order that does not depend on their probabilities."""
    return (one.label,) if one.labels is None else tuple(sorted(one.labels))


def _near(p: np.ndarray, q: np.ndarray, cuts: tuple[float, ...] | None, allowed: float) -> np.ndarray:
    """Return of which pictures another label would be no wonder, bool `(n,)`: what decides it is a tie.

    Args:
        p: Probabilities `(n, c)` of the original.
        q: Those of the export.
        cuts: The thresholds of c labels; None where a picture has one class.
        allowed: How far a probability may be off.
    """
    if cuts is None:
        rows = np.arange(len(p))
        tied: np.ndarray = p[rows, p.argmax(axis=1)] - p[rows, q.argmax(axis=1)] <= allowed
        return tied
    thresholds = np.asarray(cuts)
    flipped = (p >= thresholds) != (q >= thresholds)
    at_the_cut: np.ndarray = (~flipped | (np.abs(p - thresholds) <= allowed)).all(axis=1)
    return at_the_cut


def _same_meaning(predictor: Predictor, exported: Exported) -> None:
    """Compare what the export says of itself with what the original says, as far as an answer depends on it."""
    told = exported.description
    wanted = {
        "classes": (list(predictor.classes), told.get("classes")),
        "preprocessing": (predictor.preprocessing.to_json(), told.get("preprocessing")),
        "thresholds": (predictor.thresholds, Thresholds.of(told)),
    }
    for name, (value, found) in wanted.items():
        if found != value:
            raise ExportError(
                f"the export says that {name} are {found!r}, and the original says {value!r}: nothing was "
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


def _compare_novelty(before: dict[str, np.ndarray], after: dict[str, np.ndarray], tolerance: Tolerance) -> float | None:
    """Return `novelty` of the proof, where both give a novelty."""
    if "novelty" not in before or "novelty" not in after:
        return None
    was, now = before["novelty"], after["novelty"]
    largest = float(np.abs(was - now).max())
    if tolerance.share == 1 and not largest <= 10 * tolerance.probability:  # also when it is not a number
        raise ExportError(
            f"the export's novelty differs by {largest:.2g}, where {10 * tolerance.probability:g} is allowed: nothing "
            "was written. Please report this."
        )
    return largest / max(1e-9, float(was.std()))


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
    answers: tuple[list[Answer], list[Answer]],
    probabilities: tuple[np.ndarray, np.ndarray],
    wrong: np.ndarray,
    tolerance: Tolerance,
) -> str:
    """Return the pictures that differ, those that differ most first; each side is `(original, export)`."""
    off = np.nan_to_num(np.abs(probabilities[0] - probabilities[1]), nan=9).max(axis=1)
    order = sorted(wrong.tolist(), key=lambda row: -float(off[row]))
    lines = [("picture", "original", "export", "largest difference")]
    for row in order[:_SHOWN]:
        told = [_told(side[row]) for side in answers]
        lines.append((names[row], told[0], told[1], f"{off[row]:.2g}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    table = "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    more = f"\n… and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
    return (
        f"the export says something else on {len(wrong):,} of {len(names):,} pictures (allowed: another probability "
        f"by {tolerance.probability:g}, on {100 * (1 - tolerance.share):.0f} %): nothing was written.\n{table}{more}"
    )


def _told(one: Answer) -> str:
    """Return label and probability, or the labels, or the likeliest where none is given."""
    given = (one.label,) if one.labels is None else one.labels
    none = f"none (nearest: {one.label} {one.probabilities[one.label]:.4f})"
    return ", ".join(f"{name} {one.probabilities[name]:.4f}" for name in given) or none
