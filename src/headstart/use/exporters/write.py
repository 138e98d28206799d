"""A model -> a folder for another runtime: written aside, read back, proved, and only then put in its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core import images
from headstart.core.artifact import file_sha256
from headstart.core.errors import DataError, ExportError, ImageError, ModelError, SettingError
from headstart.core.labels import refuse_several_labels
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.predictor import BATCH_SIZE, Predictor
from headstart.core.progress import Progress
from headstart.core.replacing import new_folder
from headstart.core.runtime import Network, cores
from headstart.use.exporters import exporter
from headstart.use.exporters.accuracy import BeforeAndAfter, compare, folder_size, pictures_per_second
from headstart.use.exporters.contract import Exported, How, Number
from headstart.use.exporters.odd import odd_pictures, ordinary_pictures
from headstart.use.exporters.proof import TOLERANCES, Proof, prove

RECORD = "export.json"
MAX_LOSS = 0.01
PROVED_ON = 100
CALIBRATED_ON = 300
MEASURED_ON = 2000


@dataclass(frozen=True, eq=False)
class Data:
    """The user's pictures: n paths, and int `targets (n,)`, indices into the model's classes, where they are known."""

    paths: Sequence[str]
    targets: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Export:
    """What was written.

    Attributes:
        folder: Where.
        form, number: Format, and what the weights are kept in.
        size: Bytes of the folder.
        proof: How near it is to the original.
        accuracy: For int8: what it costs and gains.
    """

    folder: Path
    form: str
    number: Number
    size: int
    proof: Proof
    accuracy: BeforeAndAfter | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def export_model(
    predictor: Predictor,
    target: Path,
    form: str,
    *,
    number: Number = "float32",
    data: Data | None = None,
    max_loss: float = MAX_LOSS,
    force: bool = False,
    progress: Progress | None = None,
) -> Export:
    """Write a model for another runtime, after proving that it says what the original says.

    Args:
        predictor: Of a model folder.
        target: The folder to write; an earlier export there is replaced.
        form: `onnx`, `openvino`, … (`EXPORTERS`).
        number: What the weights are kept in.
        data: Pictures to prove it on, else generated ones; int8 needs them, labelled.
        max_loss: The most accuracy that int8 may lose.
        force: Write int8 even if it loses more.
        progress: Is shown the steps.

    Raises:
        SettingError: The format does not have this number, a package is missing, or int8 has no data.
        DataError: The data are too few, or cannot be read.
        ExportError: The export says something else than the original, or loses too much; nothing is left behind.
        ModelError: `target` holds something else, or cannot be written.
    """
    progress, module = progress or Progress(), exporter(form)
    if number not in module.PRECISIONS:
        raise SettingError(f"{form} is written in {' or '.join(module.PRECISIONS)}, not in {number}. Choose another.")
    if number == "int8":
        refuse_several_labels(predictor.description.get("output"), "int8")
    check_target(target)
    if form == "bundle" and not target.exists() and target.with_name(f"{target.name}.zip").exists():
        raise ModelError(f"{target}.zip exists: nothing was written. Move it away, or choose another name with --out.")
    learned, unseen = _by_training(predictor, data) if number == "int8" else ([], _rows(data))
    calibration = _calibration(predictor, data, learned) if data is not None and number == "int8" else None
    if number == "int8" and calibration is None:
        raise SettingError("int8 needs labelled pictures, some of them those that the model learned from: give data.")
    ordinary = _read(data, _some(unseen, PROVED_ON)) if data is not None else ordinary_pictures()
    with new_folder(target) as folder:
        with progress.step(f"write {form}"):
            module.export(predictor, folder, How(number, calibration))
        with progress.step("prove"):
            made = module.load(folder)
            proof = prove(predictor, made, ordinary, odd_pictures(), TOLERANCES[number])
        accuracy = None
        if data is not None and number == "int8":
            accuracy = _measure(predictor, made, data, _some(unseen, MEASURED_ON), folder, progress)
            _judge(accuracy, max_loss, force, progress)
        done = Export(target, form, number, folder_size(folder), proof, accuracy)
        write_record(folder, done)
    if form == "bundle":
        from headstart.use.exporters.to_bundle import write_zip

        write_zip(target)
    return done


def check_target(target: Path) -> None:
    """Raise ModelError if an export may not be written to `target`: only an earlier export is ever replaced."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        ours = {RECORD, *json.loads((target / RECORD).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{target} exists and is no export: nothing was written. Choose another with --out.") from None
    foreign = [path.name for path in target.rglob("*") if path.is_file() and _relative(path, target) not in ours]
    foreign = [name for name in foreign if not name.endswith(".pyc")]
    if foreign:
        raise ModelError(
            f"{target} holds {foreign[0]!r}, which no export has: nothing was written. Move it away, or choose another "
            "name with --out."
        )


def write_record(folder: Path, done: Export) -> None:
    """Write `export.json`: what was proved, and the sha256 of every other file of the folder."""
    files = {_relative(path, folder): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    told = {name: value for name, value in done.to_json().items() if name != "folder"}
    tolerance = asdict(TOLERANCES[done.number])
    text = json.dumps({**told, "tolerance": tolerance, "files": files}, indent=2, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _rows(data: Data | None) -> list[int]:
    return [] if data is None else list(range(len(data.paths)))


def _some(rows: Sequence[int], count: int) -> list[int]:
    """Return so many of the rows, chosen by a fixed seed, in order."""
    if len(rows) <= count:
        return list(rows)
    return sorted(np.random.default_rng(0).choice(np.asarray(rows), count, replace=False).tolist())


def _by_training(predictor: Predictor, data: Data | None) -> tuple[list[int], list[int]]:
    """Return the rows that the model learned from, and the others; halves where it knows none of them.

    Raises:
        SettingError: There are no labelled data.
        DataError: All of them were learned from, or there are fewer than two.
    """
    if data is None or data.targets is None:
        raise SettingError(
            "int8 needs labelled pictures, to calibrate on those that the model learned from and to measure what it "
            "costs on the others: name their folder with --data."
        )
    known = set(predictor.description.get("data", {}).get("training_digests", ()))
    learned: list[int] = []
    others: list[int] = []
    for row, path in enumerate(data.paths):
        try:
            digest = hashlib.blake2b(images.read(path), digest_size=16).hexdigest()[:16]
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
    return learned, others


def _calibration(predictor: Predictor, data: Data, rows: list[int]) -> np.ndarray:
    seen = [predictor.preprocessing.load(picture) for picture in _read(data, _some(rows, CALIBRATED_ON)).values()]
    return np.stack(seen)


def _read(data: Data, rows: Sequence[int]) -> dict[str, bytes]:
    """Return the files of the rows by path, without those that are no pictures.

    Raises:
        DataError: None of them is a picture.
    """
    found = {}
    for row in rows:
        try:
            picture = images.read(data.paths[row])
            images.decode(picture, min_size=(32, 32))
        except ImageError:
            continue
        found[data.paths[row]] = picture
    if not found:
        raise DataError("none of the pictures can be read. Name a folder of pictures with --data.")
    return found


def _measure(
    predictor: Predictor, made: Exported, data: Data, rows: Sequence[int], folder: Path, progress: Progress
) -> BeforeAndAfter:
    """Return what the export costs and gains on labelled pictures that were not learned from."""
    assert data.targets is not None
    original = Network(predictor.network_file, streams=cores()).run

    def work(chunk: list[int]) -> tuple[list[int], np.ndarray, np.ndarray] | None:
        kept, seen = [], []
        for row in chunk:
            try:
                seen.append(predictor.preprocessing.load(images.read(data.paths[row])))
            except ImageError:
                continue
            kept.append(row)
        if not kept:
            return None
        batch = np.stack(seen)
        return kept, original(batch)["probabilities"], made.run(batch)["probabilities"]

    done: list[int] = []
    before, after = [], []
    with progress.step("accuracy before and after", len(rows)) as update:
        for result in map_ordered(work, chunked(rows, BATCH_SIZE), cores()):
            if result is not None:
                done += result[0]
                before.append(result[1])
                after.append(result[2])
                update(len(done))
    with progress.step("speed before and after"):
        batch = np.zeros((BATCH_SIZE, *predictor.preprocessing.image_size, 3), np.uint8)
        speed = pictures_per_second([original, made.run], batch, workers=cores())
    return compare(
        data.targets[done],
        np.concatenate(before),
        np.concatenate(after),
        speed=(speed[0], speed[1]),
        size=(predictor.network_file.stat().st_size, folder_size(folder)),
    )


def _judge(accuracy: BeforeAndAfter, max_loss: float, force: bool, progress: Progress) -> None:
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
