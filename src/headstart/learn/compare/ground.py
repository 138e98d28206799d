"""What all choices are compared on: the pictures, and how each repeat shares them out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.core.errors import SettingError
from headstart.core.progress import Progress
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.features.pictures import Pictures
from headstart.learn.listing import some
from headstart.learn.prepare import Prepared
from headstart.learn.split import cross_validation_folds
from headstart.networks import Backbone

# With fewer held-out pictures of a label a fold's average precision is noticeably too good (docs/decisions/0010).
FEW = 10


@dataclass(frozen=True, eq=False)
class Ground:
    """What all choices are compared on.

    Attributes:
        prepared: The pictures and their split.
        rows: int64 `(n,)`, the pictures that are shared out, as indices into the dataset.
        parts: Indices into `rows`: training and held-out pictures of each fold, repeat after repeat. Where a class has
            nothing but one unit besides the test pictures, all folds learn from that and none holds it out.
        folds: Folds of one repeat.
        seed: Of everything that is drawn.
    """

    prepared: Prepared
    rows: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    folds: int
    seed: int

    @property
    def targets(self) -> np.ndarray:
        """The classes of the pictures, int64 `(n,)`; or their labels, bool `(n, c)`."""
        return np.asarray(self.prepared.dataset.targets[self.rows])

    @property
    def units(self) -> np.ndarray:
        """Equal numbers for pictures that are never divided, int64 `(n,)`."""
        return np.asarray(self.prepared.split.units[self.rows])

    @property
    def pictures(self) -> Pictures:
        """The pictures with their digests."""
        return self.prepared.pictures(self.rows)

    @property
    def judged(self) -> np.ndarray:
        """The pictures that each repeat holds out once, as indices into `rows`."""
        return np.sort(np.concatenate([outside for _, outside in self.parts[: self.folds]]))

    @property
    def test_share(self) -> float:
        """Held-out over training pictures of a fold, on average."""
        return float(np.mean([len(outside) / len(inside) for inside, outside in self.parts]))

    def seed_of(self, fold: int) -> int:
        """Return the seed of a fit: another one in each repeat."""
        return self.seed + fold // self.folds


@dataclass(frozen=True, eq=False)
class Extracted:
    """The pictures as the backbones see them.

    Attributes:
        ground: What all choices are compared on.
        backbones: By name.
        features: Of all pictures, float32 `(n, 1, d)`, by the backbone's name.
        how: Device and precision.
    """

    ground: Ground
    backbones: dict[str, Backbone]
    features: dict[str, np.ndarray]
    how: FeatureSettings


def share_out(prepared: Prepared, folds: int, repeats: int, seed: int, progress: Progress) -> Ground:
    """Share out all pictures but the test pictures.

    Args:
        prepared: The pictures and their split.
        folds: Parts of each repeat.
        repeats: How often the pictures are shared out anew.
        seed: Of everything that is drawn.
        progress: Is told which labels are too rare for their figure.

    Raises:
        DataError: The pictures are too few to share out.
        SettingError: There are so many folds that nothing can be measured on one.
    """
    rows = np.sort(np.asarray(prepared.training_rows(), np.int64))
    lonely = _lonely(prepared, rows, progress)
    shared = np.setdiff1d(rows, lonely)
    parts = cross_validation_folds(prepared.dataset, prepared.records, shared, folds=folds, repeats=repeats, seed=seed)
    inside = tuple((np.searchsorted(rows, np.union1d(a, lonely)), np.searchsorted(rows, b)) for a, b in parts)
    ground = Ground(prepared, rows, inside, len(parts) // repeats, seed)
    if prepared.dataset.several_labels:
        _check_labels(ground, progress)
    return ground


def _lonely(prepared: Prepared, rows: np.ndarray, progress: Progress) -> np.ndarray:
    """Return the rows of the only unit of some class, and name these classes; none where `fit` would test on all rows.

    `fit` learns such a class from that unit and tests it on the test pictures, which no comparison touches.
    """
    dataset, units = prepared.dataset, prepared.split.units[rows]
    if prepared.cross_validate:
        return rows[:0]
    named, alone = [], np.zeros(len(rows), bool)
    for index, name in enumerate(dataset.classes):
        has = dataset.targets[rows, index] if dataset.several_labels else dataset.targets[rows] == index
        if has.any() and (units[has] == units[has][0]).all():
            named.append(name)
            alone |= units == units[has][0]
    if named:
        progress.note(
            f"Classes with one distinct picture besides the test pictures, which is not judged: {some(named)}."
        )
    return rows[alone]


def _check_labels(ground: Ground, progress: Progress) -> None:
    """Refuse folds in which no order of the pictures is better than another, and name the labels that are rare."""
    held_out = [ground.targets[outside] for _, outside in ground.parts]
    if any(not (part != part[:1]).any() for part in held_out):
        raise SettingError(
            f"folds is {ground.folds}: the pictures that some fold holds out all have the same labels, and mean "
            "average precision needs pictures with a label and without it. Give fewer folds, or add pictures."
        )
    rare = ground.targets.sum(axis=0) < FEW * ground.folds
    if rare.any():
        names = [name for name, is_rare in zip(ground.prepared.dataset.classes, rare.tolist(), strict=True) if is_rare]
        progress.note(
            f"Labels of fewer than {FEW} pictures a fold: {some(names)}. Mean average precision over so few comes "
            "out a little too high, for all choices alike."
        )
