"""Epochs to TensorBoard or MLflow: a name in, a function of one row an epoch out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from headstart.core.errors import SettingError, unknown_name

Logger = Callable[[Mapping[str, Any]], None]


def make_logger(target: str) -> Logger:
    """Return a function for `ImageClassifier.fit(on_epoch=…)` that logs each epoch's row.

    Args:
        target: `tensorboard:FOLDER`, or `mlflow` with or without `:EXPERIMENT`. MLflow logs into the active run, or
            begins one that ends with the process; MLFLOW_TRACKING_URI says where, as for every use of MLflow.

    Raises:
        SettingError: There is no such logger, TensorBoard has no folder, the package is not installed (the message
            names the extra), or it cannot log there; the returned function raises it too.
    """
    kind, _, place = target.partition(":")
    if kind not in _LOGGERS:
        raise unknown_name("logger", kind, _LOGGERS, "`headstart fit --help`")
    with _failures_are_told(kind):
        log = _LOGGERS[kind](place)

    def told(row: Mapping[str, Any]) -> None:
        with _failures_are_told(kind):
            log(row)

    return told


def _tensorboard(folder: str) -> Logger:
    if not folder:
        raise SettingError(
            "the logger 'tensorboard' has no folder: write tensorboard:FOLDER, such as tensorboard:runs."
        )
    _import("tensorboard", "tensorboard")  # torch's writer says only that a module is missing
    writer: Any = _import("torch.utils.tensorboard", "tensorboard").SummaryWriter(log_dir=folder)

    def log(row: Mapping[str, Any]) -> None:
        for name, value in _values(row):
            # Names with a common first part are one group of charts, and training and validation stand side by side.
            group, kind = (name.removeprefix("val_"), "validation") if name.startswith("val_") else (name, "training")
            writer.add_scalar(f"{group}/{kind}", value, int(row["epoch"]))
        writer.flush()  # a run that is killed leaves what it logged

    return log


def _mlflow(experiment: str) -> Logger:
    mlflow: Any = _import("mlflow", "mlflow")
    if experiment:
        mlflow.set_experiment(experiment)

    def log(row: Mapping[str, Any]) -> None:
        if mlflow.active_run() is None:
            mlflow.start_run()
        mlflow.log_metrics(dict(_values(row)), step=int(row["epoch"]))

    return log


_PLACES = {
    "tensorboard": "its folder can be written",
    "mlflow": "MLFLOW_TRACKING_URI names a store that can be reached",
}
_LOGGERS: dict[str, Callable[[str], Logger]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}


@contextmanager
def _failures_are_told(kind: str) -> Iterator[None]:
    try:
        yield
    except SettingError:
        raise
    except Exception as error:  # whatever another library raises when its store or folder is not to be had
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise SettingError(
            f"logging to {kind} failed ({reason}): see that {_PLACES[kind]}, or leave the logger out. A fine-tuning "
            "that had begun continues with --resume (resume=True)."
        ) from error


def _values(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    # Epochs of the head before fine-tuning have charts of their own: both count from 1.
    of = "_of_head" if row.get("stage") == "head" else ""
    return [(f"{name}{of}", float(value)) for name, value in row.items() if name not in ("epoch", "stage")]


def _import(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise SettingError(
            f"logging to {extra} needs a package that is not installed ({error}): pip install 'headstart[{extra}]'."
        ) from None
