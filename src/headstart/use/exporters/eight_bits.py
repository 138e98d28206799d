"""8 bits: which pictures calibrate and which measure, what the model loses by it, and whether that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.core import digests, images
from headstart.core.errors import DataError, ExportError, ImageError, SettingError
from headstart.core.machine import cores
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.predictor import BATCH_SIZE, Predictor
from headstart.core.progress import Progress
from headstart.core.runtime import Network
from headstart.use.exporters.accuracy import BeforeAndAfter, compare, folder_size, pictures_per_second
from headstart.use.exporters.contract import Exported, Run
from headstart.use.exporters.data import Data, read_pictures, some

CALIBRATED_ON = 300
MEASURED_ON = 2000
# What the figures are of, as `evaluated_by` of a description says it.
UNSEEN = "pictures not learned from"
PERHAPS_SEEN = "pictures that the model may have learned from"


@dataclass(frozen=True, eq=False)
class Shares:
    """Rows of the data: those that calibrate, those that prove and measure, and what is known of the latter."""

    calibrating: list[int]
    measuring: list[int]
    measured_on: str


def share_out(predictor: Predictor, data: Data | None) -> Shares:
    """Return the rows that the model learned from, to calibrate on, and the others; halves where there are none.

    Raises:
        SettingError: There are no labelled data.
        DataError: All of them were learned from, or there are fewer than two.
    """
    if data is None or data.targets is None:
        raise SettingError(
            "int8 needs labelled pictures, to calibrate on those that the model learned from and to measure what it "
            "costs on the others: name their folder with --data."
        )
    known = digests.trained_on(predictor.description)
    learned: list[int] = []
    others: list[int] = []
    for row, path in enumerate(data.paths):
        try:
            digest = digests.short(digests.of_picture(path))
        except ImageError:
            continue  # the pictures that cannot be read are no loss to either side
        (learned if digest in known else others).append(row)
    if not learned:
        mixed = np.random.default_rng(0).permutation(others).tolist()
        half = min(len(mixed) // 2, CALIBRATED_ON)
        learned, others = sorted(mixed[:half]), sorted(mixed[half:])
    if not learned or not others:
        raise DataError(
            f"of the {len(data.paths):,} pictures {len(learned):,} were learned from and {len(others):,} were not: "
            "int8 needs some of both, to calibrate and to measure. Give what the model was fitted on, with pictures "
            "that it did not learn from."
        )
    return Shares(learned, others, UNSEEN if known else PERHAPS_SEEN)


def calibration(predictor: Predictor, data: Data, rows: list[int]) -> np.ndarray:
    """Return pictures as the network sees them, uint8 `(n, h, w, 3)`."""
    pictures = read_pictures(data, some(rows, CALIBRATED_ON)).values()
    return np.stack([predictor.preprocessing.load(picture) for picture in pictures])


def measure(
    predictor: Predictor, made: Exported, data: Data, shares: Shares, folder: Path, progress: Progress
) -> BeforeAndAfter:
    """Return what the export costs and gains on the labelled pictures that measure."""
    assert data.targets is not None
    original = Network(predictor.network_file, streams=cores()).run
    rows = some(shares.measuring, MEASURED_ON)
    done, before, after, novelty = _run_both(predictor, original, made, data.paths, rows, progress)
    with progress.step("speed before and after"):
        batch = np.zeros((BATCH_SIZE, *predictor.preprocessing.image_size, 3), np.uint8)
        speed = pictures_per_second([original, made.run], batch, workers=cores())
    return compare(
        data.targets[done],
        before,
        after,
        novelty=novelty,
        thresholds=predictor.thresholds,
        measured_on=shares.measured_on,
        speed=(speed[0], speed[1]),
        size=(predictor.network_file.stat().st_size, folder_size(folder)),
    )


def _run_both(
    predictor: Predictor, original: Run, made: Exported, paths: Sequence[str], rows: list[int], progress: Progress
) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the rows that could be read, their probabilities before and after, and the export's novelty of them."""

    def work(chunk: list[int]) -> tuple[list[int], dict[str, np.ndarray], dict[str, np.ndarray]] | None:
        kept, seen = [], []
        for row in chunk:
            try:
                seen.append(predictor.preprocessing.load(images.read(paths[row])))
            except ImageError:
                continue
            kept.append(row)
        batch = np.stack(seen) if seen else None
        return None if batch is None else (kept, original(batch), made.run(batch))

    done: list[int] = []
    before, after, novelty = [], [], []
    with progress.step("accuracy before and after", len(rows)) as update:
        for result in map_ordered(work, chunked(rows, BATCH_SIZE), cores()):
            if result is None:
                continue
            done += result[0]
            before.append(result[1]["probabilities"])
            after.append(result[2]["probabilities"])
            if "novelty" in result[2]:
                novelty.append(result[2]["novelty"])
            update(len(done))
    return done, np.concatenate(before), np.concatenate(after), np.concatenate(novelty) if novelty else None


def judge(accuracy: BeforeAndAfter, max_loss: float, force: bool, progress: Progress) -> None:
    """Refuse what loses more than `max_loss`, or only say so where it is forced.

    Raises:
        ExportError: It loses more.
    """
    if accuracy.measured_on == PERHAPS_SEEN:
        progress.note(
            "this model does not say which pictures it learned from: the accuracy may be too good, before and after, "
            "and the export does not carry it."
        )
    loss = -accuracy.change
    if loss <= max_loss + 1e-12:
        return
    told = (
        f"int8 names {accuracy.after.value:.4f} of {accuracy.n:,} pictures right, the original "
        f"{accuracy.before.value:.4f} (McNemar's test: p = {accuracy.p:.2g}): {loss:.4f} less, "
        f"where at most {max_loss:g} is allowed"
    )
    if not force:
        raise ExportError(
            f"{told}. Nothing was written. Keep float16 or float32, or allow it with --max-loss or --force."
        )
    progress.note(f"{told}; written all the same, as --force says.")
