"""Runs the code blocks of a Markdown page, so that no command in the documentation is untrue.

A page is run from top to bottom in one working folder: bash and console blocks command by command, python blocks in
one namespace. A block is left out only by a visible reason in its info string:

    ```bash norun: installs from the network
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LANGUAGES = ("bash", "console", "python")
# What a reader would type as well, and a runner that knows only the names above would silently pass over.
OTHER_NAMES = {"sh": "bash", "shell": "bash", "shell-session": "console", "py": "python", "python3": "python"}
TIMEOUT = 300  # seconds a command may take
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<info>[^`]*)$")


class BlockError(Exception):
    """A block of a page failed, or is written so that it cannot be run."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, where it starts, and why it is not run (None: it is run)."""

    page: Path
    line: int  # of the first line of the text, from 1
    language: str
    text: str
    excuse: str | None

    @property
    def where(self) -> str:
        """`page:line` for messages."""
        return f"{self.page.name}:{self.line}"


def pages(repository: Path) -> list[Path]:
    """Return the pages whose blocks are run: README, CONTRIBUTING and everything under docs/."""
    found = [repository / "README.md", repository / "CONTRIBUTING.md", *sorted((repository / "docs").rglob("*.md"))]
    return [page for page in found if page.is_file()]


def blocks(page: Path) -> list[Block]:
    """Return the bash, console and python blocks of a page, in order.

    Raises:
        BlockError: A fence is never closed, or an info string is neither a language nor a language with an excuse.
    """
    found = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if not fence:
            continue
        indent, ticks, body = len(fence["indent"]), fence["ticks"], []
        for _, inner in lines:
            if re.fullmatch(rf" *{re.escape(ticks[0])}{{{len(ticks)},}} *", inner):
                break
            body.append(inner[min(indent, len(inner) - len(inner.lstrip(" "))) :])
        else:
            raise BlockError(f"{page.name}:{number}: the fence is never closed.")
        language, _, rest = fence["info"].strip().partition(" ")
        if language in OTHER_NAMES:
            raise BlockError(f"{page.name}:{number}: write {OTHER_NAMES[language]!r} for {language!r}.")
        if language in LANGUAGES:
            found.append(Block(page, number + 1, language, "\n".join(body), _excuse(rest, f"{page.name}:{number}")))
    return found


def _excuse(info: str, where: str) -> str | None:
    if not info.strip():
        return None
    excuse = re.fullmatch(r"norun: (\S.*)", info.strip())
    if not excuse:
        raise BlockError(f"{where}: {info!r} after the language: write nothing, or 'norun: ' and the reason.")
    return excuse[1]


def commands(block: Block) -> Iterator[tuple[int, str]]:
    """Yield `(line, command)` of a bash or console block, where a command may go over several lines.

    Of a console block only what follows `$ ` (and its `> ` continuations) is a command; the rest is output.

    Raises:
        BlockError: The block ends in the middle of a command, or a console block has no command.
    """
    lines = list(enumerate(block.text.splitlines(), block.line))
    if block.language == "console":
        lines = _typed(lines)
        if not lines:
            raise BlockError(f"{block.where}: a console block without a '$ ' line runs nothing; call it 'text'.")
    start, pending = 0, ""
    for number, line in lines:
        if not pending and not line.strip():
            continue
        start, pending = (number, line) if not pending else (start, f"{pending}\n{line}")
        if _complete(pending):
            if not pending.lstrip().startswith("#"):
                yield start, pending
            pending = ""
    if pending:
        raise BlockError(f"{block.page.name}:{start}: bash does not understand {pending.splitlines()[0]!r}.")


def _typed(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    typed: list[tuple[int, str]] = []
    previous = -1
    for number, line in lines:
        if line.startswith("$ ") or (line.startswith("> ") and previous == number - 1):
            typed.append((number, line[2:]))
            previous = number
    return typed


def _complete(text: str) -> bool:
    # bash only warns of a here-document that is not ended, and takes a backslash at the end of its input as complete.
    if re.search(r"(?<!\\)(\\\\)*\\$", text):
        return False
    done = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True)
    return done.returncode == 0 and not done.stderr


def run_page(page: Path, folder: Path, environment: dict[str, str] | None = None) -> int:
    """Run every block of a page that is not excused, in `folder`, and return how many were run.

    Raises:
        BlockError: A block failed; the message names the page, the line and the command, and ends with its output.
    """
    environment = environment if environment is not None else environment_for_commands()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(page):
        if block.excuse is not None:
            continue
        if block.language == "python":
            _run_python(block, folder, namespace)
        else:
            _run_bash(block, folder, environment)
        ran += 1
    return ran


def environment_for_commands() -> dict[str, str]:
    """Return the environment of the commands: `headstart` and `python` are those of this virtual environment."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _run_bash(block: Block, folder: Path, environment: dict[str, str]) -> None:
    script = ["set -o pipefail"]
    for number, command in commands(block):
        # One shell for the block, so that `cd` and variables last; each command's end is looked at, so that the `a`
        # of `a && b` counts too, which `set -e` would let pass.
        script += [command, f'_ended=$?; [ "$_ended" -eq 0 ] || {{ echo "@{number}:$_ended" >&2; exit 1; }}']
    script.append("echo @end >&2")
    status, output = _bash("\n".join(script), folder, environment)
    if status is None:
        raise BlockError(f"{block.where}: not done after {TIMEOUT} s.\n{block.text}\n{output[-4000:]}")
    if status:
        marks = re.findall(r"^@(\d+):(\d+)$", output, re.MULTILINE)
        number, code = (int(marks[-1][0]), marks[-1][1]) if marks else (block.line, str(status))
        command = dict(commands(block)).get(number, block.text)
        raise BlockError(f"{block.page.name}:{number}: exit code {code} of: {command}\n{output[-4000:]}")
    if not output.endswith("@end\n"):
        raise BlockError(f"{block.where}: it ended before its last command.\n{block.text}")


def _bash(script: str, folder: Path, environment: dict[str, str]) -> tuple[int | None, str]:
    # Exit code (None: out of time) and output. In a process group, as children that live on would hold the output open.
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]
    finally:
        with suppress(ProcessLookupError):  # a server that a failed block did not come to stop
            os.killpg(process.pid, signal.SIGTERM)
    return process.returncode, output


def _run_python(block: Block, folder: Path, namespace: dict[str, Any]) -> None:
    # Empty lines before the text make a traceback show the line of the page.
    source = "\n" * (block.line - 1) + block.text
    before = os.getcwd()
    os.chdir(folder)
    try:
        exec(compile(source, str(block.page), "exec"), namespace)
    except (Exception, SystemExit) as error:
        trace = traceback.TracebackException.from_exception(error)
        lines = [frame.lineno for frame in trace.stack if frame.filename == str(block.page)]
        number = lines[-1] if lines else block.line
        raise BlockError(f"{block.page.name}:{number}: {type(error).__name__}: {error}\n{block.text}") from error
    finally:
        os.chdir(before)


def unknown_make_targets(block: Block, repository: Path) -> list[str]:
    """Return the `make …` lines of an excused block that the Makefile of `repository` does not know."""
    wrong = []
    for _, command in commands(block):
        if re.match(r"make\b", command.strip()):
            arguments = re.sub(r"(^|\s)#.*", "", command).split()[1:]
            dry = subprocess.run(["make", "-n", *arguments], cwd=repository, capture_output=True, text=True)
            if dry.returncode:
                wrong.append(command)
    return wrong
