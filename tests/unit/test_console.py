"""What is printed of names that somebody else has chosen: nothing of them reaches the terminal but letters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from serving import write_model

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
    progress.epoch({"epoch": 1, "loss": 0.5, "pictures_per_second": 70})
    extracted, epoch = capsys.readouterr().err.splitlines()
    assert extracted.startswith("extract: 7 pictures in ")
    assert epoch == "epoch  1  loss 0.500  70/s"


def test_an_epoch_of_a_model_of_several_labels_tells_what_the_best_is_chosen_by(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"epoch": 2, "loss": 0.3, "accuracy": 0.99, "val_loss": 0.4, "val_accuracy": 0.98}
    ConsoleProgress().epoch({**row, "val_mean_average_precision": 0.5})
    assert capsys.readouterr().err == "epoch  2  loss 0.300  val loss 0.400  val mean average precision 0.500\n"


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
