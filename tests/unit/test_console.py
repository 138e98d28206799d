"""What is printed of names that somebody else has chosen: nothing of them reaches the terminal but letters."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_models import write_model

from headstart.cli import app, main
from headstart.cli.console import ConsoleProgress, show, show_prose, table

NAMES = ("esc\x1b[2J", "two\nlines", ":dog:", "[red]x[/red]")
SHOWN = ("esc\\x1b[2J", "two\\nlines", ":dog:", "[red]x[/red]")


def test_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    made = table("class", "pictures#")
    for name in NAMES:
        made.add_row(name, "1")
    show(made, width=60)
    rows = [line.rsplit(maxsplit=1)[0].strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == list(SHOWN)


def test_lines_and_notes_keep_their_lines_and_nothing_else_that_moves_the_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("a :dog: in \x1b[2J\nand [b]more[/b]")
    ConsoleProgress().note("a :dog: in \x1b[2J")
    printed = capsys.readouterr()
    assert printed.out == "a :dog: in \\x1b[2J\nand [b]more[/b]\n"
    assert printed.err == "note: a :dog: in \\x1b[2J\n"


def test_predict_prints_a_line_for_each_class_whatever_files_and_classes_are_called(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    model = write_model(tmp_path / "model", classes=NAMES)
    picture = make_picture(tmp_path / "pictures" / "a\x1b[2J\nb.png")
    done = CliRunner().invoke(app, ["predict", str(model), str(picture), "--top", "4"])
    assert done.exit_code == 0, done.output
    header, *lines = done.output.splitlines()
    assert "\x1b" not in done.output
    assert "a\\x1b[2J\\nb.png" in lines[0]
    at = header.index("class")
    assert sorted(line[at:].rsplit(maxsplit=1)[0].strip() for line in lines) == sorted(SHOWN)


def test_an_unknown_command_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fti", "pictures"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "headstart: unknown command 'fti': did you mean 'fit'? `headstart --help` lists all."


def test_outside_a_terminal_an_epoch_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress()
    for name in ("extract", "train"):
        with progress.step(name, 7) as update:
            update(7)
    progress.epoch({"epoch": 1, "loss": 0.5, "pictures_per_second": 70}, 15)
    extracted, epoch = capsys.readouterr().err.splitlines()
    assert extracted.startswith("extract: 7 pictures in ")
    assert epoch == "epoch  1/15  loss 0.500  70/s"


def test_an_epoch_of_the_head_before_fine_tuning_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress().epoch({"epoch": 1, "loss": 0.5, "stage": "head"}, 10)
    assert capsys.readouterr().err == "head epoch  1/10  loss 0.500\n"


@pytest.mark.parametrize("figure", ["mean average precision", "weighted accuracy"])
def test_an_epoch_tells_what_the_best_is_chosen_by_where_that_is_not_the_accuracy(
    figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"epoch": 2, "loss": 0.3, "accuracy": 0.99, "val_loss": 0.4, "val_accuracy": 0.98}
    ConsoleProgress().epoch({**row, f"val_{figure.replace(' ', '_')}": 0.5}, 3)
    assert capsys.readouterr().err == f"epoch 2/3  loss 0.300  val loss 0.400, {figure} 0.500\n"


def test_the_line_of_an_epoch_fits_a_window_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"epoch": 12, "loss": 0.3, "accuracy": 0.99, "val_loss": 0.4, "val_accuracy": 0.98}
    ConsoleProgress().epoch({**row, "pictures_per_second": 1234.0}, 15)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "epoch 12/15  loss 0.300  accuracy 0.990  val loss 0.400, accuracy 0.980  1,234/s"
    assert len(line) <= 80


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_in_a_window_the_words_of_a_step_take_the_place_of_its_name_and_time_left_is_beside_them() -> None:
    code = (
        "import time\n"
        "from headstart.cli.console import ConsoleProgress\n"
        "with ConsoleProgress().step('train', 1500) as update:\n"
        "    for done in range(0, 900, 100):\n"
        "        update(done, 'epoch 12/15  loss 0.412  accuracy 0.912')\n"
        "        time.sleep(0.15)\n"
    )
    ours, theirs = os.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux tells the end so
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0, shown
    frames = re.split(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n", shown.decode())
    frame = [text for text in frames if "pictures/s" in text][-1]
    assert re.fullmatch(r"epoch 12/15  loss 0\.412  accuracy 0\.912 .*\d+ pictures/s 0:00:\d\d *", frame)
    assert len(frame.rstrip()) <= 80


def test_a_table_cuts_no_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "IMG_" + "0123456789" * 6 + ".jpg"
    made = table("finding", "the worst", "why")
    made.add_row("labels", name, "1.000 for bees, 0.000 for ants")
    show(made)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 40 for line in lines)
    column = slice(lines[0].index("the worst"), lines[0].index("why"))
    assert "".join(line[column].strip() for line in lines[1:]) == name


def test_sentences_for_a_pipe_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    sentence = "vgg16: " + "Comparing with older papers. " * 5
    show_prose(sentence)
    assert capsys.readouterr().out == sentence + "\n"


def test_naming_imagenet_classes_needs_a_cache_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--backbone", "efficientnet_lite0", "picture.jpg"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written: Not a directory. Set HEADSTART_CACHE to a folder that can be written." in line


@pytest.mark.parametrize("name", ["vgg16.keras", "vit_small_patch14_dinov2.lvd142m"])
def test_weights_without_a_classifier_are_told_with_those_that_have_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--backbone", name, "picture.jpg"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the weights of {name} bring no classifier" in line
    able = line.split("These can: ")[1].split(". ")[0].split(", ")
    assert {"efficientnet_lite0", "vgg16", "resnet18", "convnext_tiny"} <= set(able)
    assert not {name, "vgg16.keras", "vit_small_patch16_dinov3.lvd1689m"} & set(able)
