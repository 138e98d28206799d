"""What the verbs share: progress on standard error, and numbers as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headstart.core.progress import Progress, Update
from headstart.core.text import shown, shown_lines

# Steps of several epochs: the epochs' own lines tell of them.
_OF_EPOCHS = ("train",)
# What the best epoch is chosen by where it is not the accuracy, which is then high whatever is learned.
_CHOSEN_BY = ("val_mean_average_precision", "val_weighted_accuracy")


class ConsoleProgress(Progress):
    """Progress drawn on standard error: count, pictures a second, time left; notes as lines.

    Args:
        quiet: Draw no progress; notes are shown all the same.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._quiet = quiet

    def note(self, text: str, *, report: bool = False) -> None:
        """Show one sentence."""
        super().note(text, report=report)
        # One line in a file or a pipe; words are kept whole in a window.
        whole = not self._console.is_terminal
        self._console.print(f"note: {shown_lines(text)}", style="yellow", markup=False, soft_wrap=whole)

    def epoch(self, row: Mapping[str, Any], epochs: int) -> None:
        """Show one line of an epoch: its number, losses, what the best epoch is chosen by, pictures a second."""
        if self._quiet:
            return
        stage = f"{row['stage']} " if "stage" in row else ""
        parts = [f"{stage}epoch {row['epoch']:>{len(str(epochs))}.0f}/{epochs}"]  # all of it fits 80 columns
        chosen_by = next((name for name in _CHOSEN_BY if name in row), "val_accuracy")
        training = ("loss", "accuracy") if chosen_by == "val_accuracy" else ("loss",)
        parts += [f"{name} {row[name]:.3f}" for name in training if name in row]
        judged = [f"{name[4:].replace('_', ' ')} {row[name]:.3f}" for name in ("val_loss", chosen_by) if name in row]
        if judged:
            parts.append(f"val {', '.join(judged)}")
        if "pictures_per_second" in row:
            parts.append(f"{row['pictures_per_second']:,.0f}/s")
        self._console.print("  ".join(parts), markup=False, soft_wrap=True)

    @contextmanager
    def _shown(self, name: str, total: int | None, unit: str) -> Iterator[Update]:
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Any) -> Text:
                return Text("" if not task.speed else f"{task.speed:,.0f} {unit}/s", style="cyan")

        if self._quiet or not self._console.is_terminal:
            start, done_last = time.perf_counter(), 0

            def remember(done: int, words: str = "") -> None:
                nonlocal done_last
                done_last = done

            yield remember
            if not self._quiet and done_last and name not in _OF_EPOCHS:
                seconds = time.perf_counter() - start
                self._console.print(f"{name}: {done_last:,} {unit} in {seconds:.1f} s", markup=False)
            return
        # Where words say how far it is, they need the room.
        count = [BarColumn(10)] if name in _OF_EPOCHS else [BarColumn(), MofNCompleteColumn()]
        columns = [TextColumn("{task.description}", markup=False), *count, Rate(), TimeRemainingColumn()]
        with Bars(*(columns if total else columns[:1]), console=self._console, transient=True) as bars:
            task = bars.add_task(name, total=total)
            yield lambda done, words="": bars.update(task, completed=done, description=words or name)


def size(number_of_bytes: float) -> str:
    """Return a size as people read it, such as `18.4 MB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if number_of_bytes < 1000:
            return f"{number_of_bytes:.0f} {unit}" if unit == "B" else f"{number_of_bytes:.1f} {unit}"
        number_of_bytes /= 1000
    return f"{number_of_bytes:.1f} TB"


def table(*columns: str) -> Any:
    """Return an empty rich table without lines, its numeric columns (named with a trailing `#`) to the right.

    Names are shown as they are: a class or a file may be called anything, and nothing in it moves the cursor.
    """
    from rich.table import Table

    class Printable(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(shown(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    made = Printable(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # What is too long goes on in the next line: a name that is cut names nothing.
        made.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    return made


def show_prose(*lines: str) -> None:
    """Print sentences on standard output: in a window words are kept whole, elsewhere each is one line.

    Not for paths and commands, which somebody may copy: those are for `show`.
    """
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    for line in lines:
        console.print(shown_lines(line), markup=False, soft_wrap=not console.is_terminal)


def show(*parts: Any, width: int | None = None) -> None:
    """Print results on standard output; `width` is that of tables which must not be cut, whatever the window's is."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, width=width, emoji=False)
    for part in parts:
        console.print(shown_lines(part) if isinstance(part, str) else part, markup=False)
