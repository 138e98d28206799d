"""The curves of a history, and the hook that sends epochs to TensorBoard or MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from headstart.core.errors import SettingError
from headstart.learn.curves import DIVIDER, TRAINING, VALIDATION, draw_curves
from headstart.learn.loggers import make_logger

HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.4 / epoch, "val_loss": 1.3 / epoch, "val_accuracy": 0.9}
    for epoch in range(1, 8)
]


def pixels_of(path: Path, colour: str) -> np.ndarray:
    """Return which pixels of each half have exactly a colour, bool `(h, w)`."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    with Image.open(path) as picture:
        return (np.asarray(picture.convert("RGB")) == wanted).all(axis=2)


def test_both_panels_show_training_and_validation(tmp_path: Path) -> None:
    draw_curves(HISTORY, tmp_path / "curves.png")
    for colour in (TRAINING, VALIDATION):
        drawn = pixels_of(tmp_path / "curves.png", colour)
        middle = drawn.shape[1] // 2
        assert drawn[:, :middle].any()
        assert drawn[:, middle:].any()


def test_several_labels_are_judged_by_mean_average_precision(tmp_path: Path) -> None:
    rows = [{**row, "val_mean_average_precision": 0.5 + 0.05 * row["epoch"]} for row in HISTORY]
    draw_curves(rows, tmp_path / "curves.png")
    drawn = [pixels_of(tmp_path / "curves.png", colour) for colour in (TRAINING, VALIDATION)]
    middle = drawn[0].shape[1] // 2
    # On the left the mean average precision, which only validation has, and no accuracy; on the right both losses.
    assert [panel[:, :middle].any() for panel in drawn] == [False, True]
    assert all(panel[:, middle:].any() for panel in drawn)


def test_with_class_weights_the_accuracy_that_they_weigh_stands_in_the_middle(tmp_path: Path) -> None:
    rows = [{**row, "val_weighted_accuracy": 0.5 + 0.05 * row["epoch"]} for row in HISTORY]
    draw_curves(rows, tmp_path / "curves.png")
    drawn = [pixels_of(tmp_path / "curves.png", colour) for colour in (TRAINING, VALIDATION)]
    third = drawn[0].shape[1] // 3
    middle = slice(third + 20, 2 * third - 20)
    assert [panel[:, middle].any() for panel in drawn] == [False, True]
    assert all(panel[:, part].any() for panel in drawn for part in (slice(third), slice(2 * third, None)))


def test_training_is_solid_and_validation_is_dashed(tmp_path: Path) -> None:
    level = [{"epoch": epoch, "accuracy": 0.5, "val_accuracy": 0.9} for epoch in range(1, 8)]
    draw_curves(level, tmp_path / "curves.png")

    def gaps(colour: str) -> int:
        drawn = pixels_of(tmp_path / "curves.png", colour)
        row = drawn[drawn.sum(axis=1).argmax()]  # the line is level, so its row has most of its pixels
        return int((np.diff(row.astype(int)) == -1).sum())

    assert gaps(TRAINING) <= 2  # the line and its sample in the legend
    assert gaps(VALIDATION) > 5


def test_where_fine_tuning_begins_stands_a_line(tmp_path: Path) -> None:
    rows = [{**row, "stage": "head"} for row in HISTORY[:4]] + [{**row, "stage": "finetune"} for row in HISTORY[:3]]
    draw_curves(rows, tmp_path / "both.png")
    drawn = pixels_of(tmp_path / "both.png", DIVIDER)
    middle = drawn.shape[1] // 2
    columns = [int(panel.sum(axis=0).argmax()) for panel in (drawn[:, :middle], drawn[:, middle:])]
    heights = [int(panel.sum(axis=0).max()) for panel in (drawn[:, :middle], drawn[:, middle:])]
    assert min(heights) > drawn.shape[0] // 8  # dotted, from top to bottom
    for side, column in zip((0, middle), columns, strict=True):
        line = np.flatnonzero(pixels_of(tmp_path / "both.png", TRAINING)[:, side : side + middle].any(axis=0))
        # Of seven epochs between the fourth and the fifth: the way from 1 to 7 is six steps long.
        assert (column - line.min()) / (line.max() - line.min()) == pytest.approx(3.5 / 6, abs=0.03)
    for stage in ("head", "finetune"):
        draw_curves([{**row, "stage": stage} for row in HISTORY], tmp_path / "one.png")
        assert pixels_of(tmp_path / "one.png", DIVIDER).sum(axis=0).max() < 20


def test_a_figure_that_only_fine_tuning_has_is_drawn_from_there_on(tmp_path: Path) -> None:
    tuned = [{**row, "stage": "finetune", "val_mean_average_precision": 0.8} for row in HISTORY]
    draw_curves([*({**row, "stage": "head"} for row in HISTORY), *tuned], tmp_path / "curves.png")
    drawn = pixels_of(tmp_path / "curves.png", VALIDATION)
    columns = np.flatnonzero(drawn[80:, : drawn.shape[1] // 2].any(axis=0))  # without the legend
    assert columns.min() > drawn.shape[1] // 4


def test_a_single_epoch_is_drawn_and_no_epoch_is_not(tmp_path: Path) -> None:
    draw_curves(HISTORY[:1], tmp_path / "one.png")
    assert pixels_of(tmp_path / "one.png", TRAINING).sum() > 20
    draw_curves([], tmp_path / "none.png")
    draw_curves([{"epoch": 1, "temperature": 20.0}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_column_that_a_history_lacks_is_left_out(tmp_path: Path) -> None:
    draw_curves([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}], tmp_path / "loss.png")
    assert not pixels_of(tmp_path / "loss.png", VALIDATION).any()
    draw_curves(HISTORY, tmp_path / "both.png")
    assert pixels_of(tmp_path / "loss.png", TRAINING).shape[1] < pixels_of(tmp_path / "both.png", TRAINING).shape[1]


def test_drawing_leaves_no_state_of_pyplot_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headstart.learn.curves import draw_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_curves([{'epoch': 1, 'loss': 1.0}], Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "c.png"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class FakeMLflow(SimpleNamespace):
    """What of MLflow is used, noting the calls."""

    def __init__(self) -> None:
        super().__init__(calls=[], run=None)

    def set_experiment(self, name: str) -> None:
        self.calls.append(("experiment", name))

    def active_run(self) -> object:
        return self.run

    def start_run(self) -> None:
        self.run = object()
        self.calls.append(("start",))

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append(("log", metrics, step))


def test_mlflow_gets_every_epoch_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log = make_logger("mlflow:insects")
    for row in HISTORY[:2]:
        log(row)
    assert fake.calls[:2] == [("experiment", "insects"), ("start",)]
    assert [call[0] for call in fake.calls[2:]] == ["log", "log"]
    _, metrics, step = fake.calls[3]
    assert step == 2
    assert metrics == {name: value for name, value in HISTORY[1].items() if name != "epoch"}


def test_epochs_of_the_head_before_fine_tuning_are_logged_under_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log = make_logger("mlflow")
    log({"epoch": 1, "stage": "head", "loss": 0.5, "val_loss": 0.6})
    log({"epoch": 1, "loss": 0.3, "val_loss": 0.4})
    assert [metrics for call, metrics, *_ in fake.calls[1:]] == [
        {"loss_of_head": 0.5, "val_loss_of_head": 0.6},
        {"loss": 0.3, "val_loss": 0.4},
    ]


def test_a_store_that_fails_is_a_setting_to_change_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no store at this address\nmore")

    working = {"active_run": lambda: None, "start_run": lambda: None, "set_experiment": lambda _: None}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(**working, log_metrics=fail))
    log = make_logger("mlflow:insects")
    message = r"logging to mlflow failed \(no store at this address\): see that MLFLOW_TRACKING_URI .* --resume"
    with pytest.raises(SettingError, match=message):
        log(HISTORY[0])
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(**working | {"set_experiment": fail}))
    with pytest.raises(SettingError, match=message):
        make_logger("mlflow:insects")


def test_mlflow_logs_into_the_run_that_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMLflow()
    fake.run = object()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    make_logger("mlflow")(HISTORY[0])
    assert [call[0] for call in fake.calls] == ["log"]


def test_tensorboard_shows_training_and_validation_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[tuple[str, float, int]] = []
    flushed: list[int] = []

    class FakeWriter:
        def __init__(self, log_dir: str) -> None:
            self.log_dir = log_dir

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            flushed.append(len(written))

    monkeypatch.setitem(sys.modules, "tensorboard", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=FakeWriter))
    log = make_logger(f"tensorboard:{tmp_path}")
    log(HISTORY[0])
    assert {name for name, _, _ in written} == {
        f"{panel}/{kind}" for panel in ("loss", "accuracy") for kind in ("training", "validation")
    }
    assert ("loss/validation", 1.3, 1) in written
    assert flushed == [len(written)]


def test_tensorboard_itself_reads_back_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    # In another process: TensorBoard warns of its own dependencies, and warnings are errors here.
    code = (
        "import sys; from headstart.learn.loggers import make_logger\n"
        "log = make_logger('tensorboard:' + sys.argv[1])\n"
        "log({'epoch': 1, 'loss': 0.5}); log({'epoch': 2, 'loss': 0.25})\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "read = EventAccumulator(sys.argv[1]); read.Reload()\n"
        "print([(event.step, event.value) for event in read.Scalars('loss/training')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "runs"], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[(1, 0.5), (2, 0.25)]"), done.stderr


@pytest.mark.parametrize(
    ("target", "module", "words"),
    [
        ("mlflow", "mlflow", r"headstart\[mlflow\]"),
        ("tensorboard:runs", "tensorboard", r"headstart\[tensorboard\]"),
        ("tensorboard", "", "tensorboard:FOLDER"),
        ("tensorbord:runs", "", "'tensorboard'"),
    ],
)
def test_a_logger_that_cannot_be_had_says_what_to_do(
    target: str, module: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(SettingError, match=words):
        make_logger(target)
