"""A model -> a folder for another runtime: written aside, read back, proved, and only then put in its place."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.core.artifact import DESCRIPTION, file_sha256
from headstart.core.errors import ModelError, SettingError
from headstart.core.labels import refuse_several_labels
from headstart.core.predictor import Predictor
from headstart.core.progress import Progress
from headstart.core.replacing import new_folder
from headstart.use.exporters import eight_bits, exporter
from headstart.use.exporters.accuracy import BeforeAndAfter, folder_size
from headstart.use.exporters.contract import Exported, Exporter, How, Number
from headstart.use.exporters.data import Data, read_pictures, some
from headstart.use.exporters.metadata import with_figures
from headstart.use.exporters.odd import odd_pictures, ordinary_pictures
from headstart.use.exporters.proof import TOLERANCES, Proof, prove

RECORD = "export.json"
MAX_LOSS = 0.01
PROVED_ON = 100


@dataclass(frozen=True, eq=False)
class Export:
    """What was written.

    Attributes:
        folder: Where.
        form, number: Format, and what the weights are kept in.
        size: Bytes of the folder.
        proof: How near it is to the original.
        generated: Whether the ordinary pictures of the proof were generated, as there were no data.
        accuracy: For int8: what it costs and gains.
    """

    folder: Path
    form: str
    number: Number
    size: int
    proof: Proof
    generated: bool
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
        SettingError: The format does not have this number, a package is missing, int8 has no data, or the predictor is
            not that of a model folder.
        DataError: The data are too few, or cannot be read.
        ExportError: The export says something else than the original, or loses too much; nothing is left behind.
        ModelError: `target` holds something else, or cannot be written.
    """
    progress, module, target = progress or Progress(), exporter(form), target.absolute()
    if number not in module.PRECISIONS:
        raise SettingError(f"{form} is written in {' or '.join(module.PRECISIONS)}, not in {number}. Choose another.")
    _check_source(predictor)
    if number == "int8":
        refuse_several_labels(predictor.description.get("output"), "int8")
    check_target(target)
    if form == "bundle":
        _check_zip(target)
    shares = eight_bits.share_out(predictor, data) if number == "int8" else None
    calibration = None
    if shares is not None and data is not None:
        calibration = eight_bits.calibration(predictor, data, shares.calibrating)
    if data is None:
        ordinary = ordinary_pictures()
    else:
        rows = shares.measuring if shares is not None else range(len(data.paths))
        ordinary = read_pictures(data, some(rows, PROVED_ON))
    with new_folder(target) as folder:
        with progress.step(f"write {form}"):
            module.export(predictor, folder, How(number, calibration))
        with progress.step("prove"):
            made = module.load(folder)
            proof = prove(predictor, made, ordinary, odd_pictures(), TOLERANCES[number])
        accuracy = None
        if shares is not None and data is not None:
            accuracy = eight_bits.measure(predictor, made, data, shares, folder, progress)
            eight_bits.judge(accuracy, max_loss, force, progress)
            _tell_figures(module, folder, made, accuracy)
        done = Export(target, form, number, folder_size(folder), proof, data is None, accuracy)
        write_record(folder, done)
        if form == "bundle":
            from headstart.use.exporters.to_bundle import write_zip, zip_of

            write_zip(folder, zip_of(target))
    return done


def _check_source(predictor: Predictor) -> None:
    """Raise SettingError if the predictor is not that of a model folder: an export lacks what another is made from."""
    source, made = predictor.network_file, predictor.description.get("export")
    if made is not None:
        raise SettingError(
            f"{source} is an export itself ({made.get('format')}, {made.get('number')}), and a model is exported from "
            "the folder that `headstart fit` wrote: name that folder."
        )
    if not (source.parent / DESCRIPTION).is_file():
        raise SettingError(
            f"{source} is in no model folder: save the model first, and export what `headstart.load` returns of it."
        )


def _check_zip(target: Path) -> None:
    """Raise ModelError if a zip beside `target` is not that of an earlier bundle there."""
    from headstart.use.exporters.to_bundle import zip_of

    if not zip_of(target).exists():
        return
    try:
        former = json.loads((target / RECORD).read_text(encoding="utf-8"))["form"]
    except (OSError, ValueError, KeyError, TypeError):
        former = None
    if former != "bundle":
        raise ModelError(
            f"{zip_of(target)} exists and is no earlier bundle's: nothing was written. Move it away, or choose another "
            "name with --out."
        )


def _tell_figures(module: Exporter, folder: Path, made: Exported, accuracy: BeforeAndAfter) -> None:
    """Let an export in 8 bits carry its own figures, where they are of pictures that were not learned from."""
    if accuracy.measured_on == eight_bits.UNSEEN:
        module.describe_again(folder, with_figures(made.description, accuracy, made.engine))
        module.load(folder)  # which refuses what does not belong together


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
