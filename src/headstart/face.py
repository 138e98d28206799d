"""What the package offers in Python that needs both sides: what learns and what uses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.core.pictures import Picture
    from headstart.core.predictor import Predictor
    from headstart.core.progress import Progress
    from headstart.learn.evaluation import DataEvaluation
    from headstart.use.explain import Explanation, Method
    from headstart.use.exporters.contract import Number
    from headstart.use.exporters.data import Data
    from headstart.use.exporters.write import Export

_SUFFIXES = {"float16": "-fp16", "int8": "-int8"}


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        file: Where.
        pictures: How many it is about.
    """

    file: Path
    pictures: int


def explain(
    model: str | os.PathLike[str] | Predictor,
    pictures: Any,
    *,
    target: str | None = None,
    method: Method = "auto",
    data: Any = None,
    count: int = 5,
    progress: Progress | None = None,
) -> list[Explanation]:
    """Return where a saved model looked in pictures, and the training pictures they are most like.

    Args:
        model: A model folder, or what `load` returned.
        pictures: One or several of: path, folder, bytes, uint8 RGB array `(h, w, 3)`, PIL image.
        target: The class to explain; None takes each picture's most probable one.
        method: `gradcam` looks inside the network and needs torch; `occlusion` covers parts of the picture and needs
            only what predicting needs; `auto` takes the first where torch is installed.
        data: The folder, manifest or DataFrame that the model was fitted on: then each explanation also has the most
            similar training pictures, by the cosine of their features.
        count: How many of them.
        progress: Is shown the features of training pictures that have to be computed.

    Returns:
        An `Explanation` for each picture: `label`, `probability`, `heat (h, w)`, `overlay()`, `similar`; a picture that
        cannot be read has its `error` set.

    Raises:
        ModelError: There is no such model, or it is damaged.
        SettingError: There is no such class or method, `count` is not above 0, or `pictures` are none.
        DataError: `data` holds none of the pictures that the model was trained on, or a folder holds no picture.
        CacheError: The feature cache cannot be written.
    """
    from headstart.core.pictures import as_list

    listed = as_list(pictures)
    return list(explain_each(model, listed, target=target, method=method, data=data, count=count, progress=progress))


def explain_each(
    model: str | os.PathLike[str] | Predictor,
    pictures: Iterable[Picture],
    *,
    target: str | None = None,
    method: Method = "auto",
    data: Any = None,
    count: int = 5,
    progress: Progress | None = None,
) -> Iterator[Explanation]:
    """Yield what `explain` returns picture by picture, in bounded memory; takes and raises the same.

    What is wrong with anything but the pictures is raised at once, not when the first is asked for.
    """
    from headstart.core.errors import SettingError
    from headstart.use.explain import explain_pictures

    if count < 1:
        raise SettingError(f"count is {count!r}: give a whole number from 1.")
    predictor = _predictor(model)
    similar = None
    if data is not None:
        from headstart.learn.similar import TrainingPictures

        similar = partial(TrainingPictures(predictor, data, progress=progress).most_similar, count=count)
    return explain_pictures(predictor, pictures, target=target, method=method, similar=similar)


def export(
    model: str | os.PathLike[str] | Predictor,
    to: str,
    *,
    out: str | os.PathLike[str] | None = None,
    number: Number = "float32",
    data: Any = None,
    max_loss: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Export:
    """Write a saved model for another runtime, after proving on pictures that it says what the model says.

    Args:
        model: A model folder, or what `load` returned of one.
        to: The format: `onnx`, `openvino`, `torch`, `litert`, or `bundle`, which runs by itself.
        out: The folder to write, in place of an earlier export there; None: `MODEL-FORMAT` beside the model, with
            `-fp16` or `-int8` behind it where the weights are kept so.
        number: What the weights are kept in: `float32`, `float16`, or `int8`, which is calibrated and measured on
            `data`.
        data: A folder, manifest or DataFrame of pictures to prove it on; None generates some. For `int8` that which
            the model was fitted on, with its labels.
        max_loss: The most accuracy that `int8` may lose, from 0 to 1; None: 0.01.
        force: Write `int8` even if it loses more.
        progress: Is shown the steps.

    Returns:
        An `Export`: `folder`, `form`, `number`, `size` in bytes, the `proof` (pictures, how many have the same label,
        the largest difference of a probability), and for `int8` the `accuracy` before and after.

    Raises:
        ModelError: There is no such model, or it is damaged; `out` holds something else, or cannot be written.
        SettingError: There is no such format, it is not written in this `number`, a package for it is missing, `model`
            is an export itself, `int8` has no data, or `max_loss` is no share.
        DataError: The data cannot be read, have a class that the model does not know, or are too few.
        ExportError: The export says something else than the model, or loses too much; nothing is left behind.
    """
    from headstart.core.errors import SettingError
    from headstart.use.exporters.write import MAX_LOSS, export_model

    if max_loss is not None and not 0 <= max_loss <= 1:
        raise SettingError(f"max_loss is {max_loss!r}: give a share from 0 to 1, such as 0.01.")
    predictor = _predictor(model)
    home = predictor.network_file.parent.absolute()
    return export_model(
        predictor,
        home.with_name(f"{home.name}-{to}{_SUFFIXES.get(number, '')}") if out is None else Path(out),
        to,
        number=number,
        data=None if data is None else _read(data, predictor, labelled=number == "int8"),
        max_loss=MAX_LOSS if max_loss is None else max_loss,
        force=force,
        progress=progress,
    )


def evaluate_on(
    model: str | os.PathLike[str] | Predictor,
    data: Any,
    *,
    part: str | None = None,
    seed: int = 0,
    page: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> DataEvaluation:
    """Measure a saved model on labelled pictures, and write a report of that.

    Takes, returns and raises what `headstart.learn.evaluation.evaluate_on` does, and more:

    Args:
        model: A model folder, or what `load` returned.
        data: Folder, manifest or DataFrame with the model's classes (not necessarily all of them).
        part: Only the pictures of this split of the data.
        seed: Of the bootstrap.
        page: The HTML file of the report, checked before the work; None writes none.
        progress: Is shown the steps, and told when pictures were trained on.

    Raises:
        ModelError: There is no such model, or it is damaged.
        SettingError: `page` cannot be written, or the data have no such split.
        DataError: The data cannot be read, or have a class that the model does not know.
    """
    from headstart.core.progress import Progress
    from headstart.learn import evaluation

    predictor, progress = _predictor(model), progress or Progress()
    if page is None:
        return evaluation.evaluate_on(predictor, data, part=part, seed=seed, progress=progress)
    from headstart.use.page import check_page, save_page
    from headstart.use.report import of_evaluation
    from headstart.use.report import report as render

    check_page(Path(page))
    result = evaluation.evaluate_on(predictor, data, part=part, seed=seed, progress=progress)
    name = Path(data).absolute().name if isinstance(data, (str, os.PathLike)) else "a DataFrame"
    with progress.step("report"):
        material = of_evaluation(
            predictor,
            result.evaluation,
            result.outcomes,
            data=name + (f", {part}" if part else ""),
            set_aside=result.set_aside,
            trained_on=result.seen_in_training,
            slices=result.slices,
            notes=progress.reported,
        )
        save_page(render(material), Path(page))
    return result


def report(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    heat: bool = True,
) -> Report:
    """Write the report of a model again, from what its folder remembers of the test; nothing is measured.

    Args:
        model: A model folder.
        data: The folder or manifest that it was fitted on: then the test pictures are shown.
        out: The HTML file; None: `MODEL-report.html` beside the model.
        heat: Whether heat maps of the surest mistakes are drawn, where there are pictures.

    Raises:
        ModelError: There is no such model, it is damaged, or it does not remember its test.
        SettingError: `out` cannot be written.
        DataError: `data` cannot be read, or has none of the test pictures.
    """
    from headstart.core import digests
    from headstart.core.artifact import read_description
    from headstart.core.errors import DataError
    from headstart.learn.dataset import read_dataset_of
    from headstart.use.page import check_page, save_page
    from headstart.use.report import Finder, of_model
    from headstart.use.report import report as render

    folder = Path(model).absolute()
    page = folder.with_name(f"{folder.name}-report.html") if out is None else Path(out)
    check_page(page)
    description = read_description(folder)
    paths = () if data is None else read_dataset_of(data, description).paths
    find = Finder(paths, digests.trained_on(description))
    material = of_model(folder, description, find)
    if data is not None:
        if not any(material.said.paths):
            raise DataError(
                f"{data} has none of the test pictures of {folder.name}: name what it was fitted on, or measure it on "
                f"other pictures with `headstart evaluate {folder.name} {data}`."
            )
        material = replace(material, why_missing=find.why_missing(Path(data).name or str(data)))
    save_page(render(material if heat else replace(material, heat_maps=None)), page)
    return Report(page, len(material.said.names))


def _predictor(model: str | os.PathLike[str] | Predictor) -> Predictor:
    from headstart.core.artifact import load
    from headstart.core.predictor import Predictor

    return model if isinstance(model, Predictor) else load(model)


def _read(data: Any, predictor: Predictor, *, labelled: bool) -> Data:
    """Return labelled pictures, or, where labels are not needed and it is a folder, all pictures in it."""
    from headstart.core.pictures import find_files
    from headstart.use.exporters.data import Data

    if not labelled and isinstance(data, (str, os.PathLike)) and (found := [str(path) for path in find_files(data)]):
        return Data(found)
    from headstart.learn.dataset import read_dataset_of, targets_for

    dataset = read_dataset_of(data, predictor.description)
    targets = targets_for(dataset, predictor.classes)
    return Data(dataset.paths, None if dataset.several_labels else targets)  # only int8 needs them, of one class each
