from __future__ import annotations

import os
import time
from pathlib import Path

import markdown_runner as runner
import pytest
from markdown_runner import BlockError, blocks, commands, run_page


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def bash(*lines: str, language: str = "bash") -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


def test_blocks_of_the_three_languages_are_found_with_their_lines(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        "# Title\n\n```bash\nls\n```\n\n```json\n{}\n```\n\n"
        "- in a list:\n\n  ```python\n  x = 1\n  if x:\n      x = 2\n  ```\n"
        "\n~~~console\n$ true\nout\n~~~\n\n````text\n```bash\nfalse\n```\n````\n",
    )
    found = [(block.language, block.line, block.text, block.excuse) for block in blocks(page)]
    assert found == [
        ("bash", 4, "ls", None),
        ("python", 14, "x = 1\nif x:\n    x = 2", None),
        ("console", 20, "$ true\nout", None),
    ]


@pytest.mark.parametrize("info", ["bash norun", "bash norun:", "bash skip", "python norun because I say so"])
def test_an_excuse_without_a_reason_is_refused(tmp_path: Path, info: str) -> None:
    with pytest.raises(BlockError, match=r"page\.md:1: .* write nothing, or 'norun: ' and the reason"):
        blocks(write(tmp_path, bash("false", language=info)))


def test_an_excused_block_keeps_its_reason_and_is_not_run(tmp_path: Path) -> None:
    page = write(tmp_path, bash("touch ran", language="bash norun: needs the network"))
    assert [block.excuse for block in blocks(page)] == ["needs the network"]
    assert run_page(page, tmp_path) == 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("language", ["sh", "shell", "py"])
def test_a_name_that_would_not_be_run_is_refused(tmp_path: Path, language: str) -> None:
    with pytest.raises(BlockError, match=f"write '.*' for '{language}'"):
        blocks(write(tmp_path, bash("false", language=language)))


def test_a_fence_that_is_never_closed_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"page\.md:3: the fence is never closed"):
        blocks(write(tmp_path, "text\n\n```bash\nls\n"))


def test_a_command_may_go_over_several_lines(tmp_path: Path) -> None:
    text = bash(
        "# a remark", "echo a \\", "  b", "", "for x in 1 2; do", "  echo $x", "done", "cat <<END", "x", "END", "ls"
    )
    (block,) = blocks(write(tmp_path, text))
    assert [(line, command.splitlines()[0]) for line, command in commands(block)] == [
        (3, "echo a \\"),
        (6, "for x in 1 2; do"),
        (9, "cat <<END"),
        (12, "ls"),
    ]


def test_a_command_that_bash_does_not_understand_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"page\.md:3: bash does not understand 'echo \(unclosed'"):
        run_page(write(tmp_path, bash("true", "echo (unclosed")), tmp_path)


def test_of_a_console_block_only_what_is_typed_is_run(tmp_path: Path) -> None:
    page = write(tmp_path, bash("$ touch a \\", "> b", "a: done", "> not typed", "$ touch c", language="console"))
    assert run_page(page, tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "a", "b", "c"}


def test_a_console_block_that_types_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match="without a '\\$ ' line runs nothing"):
        run_page(write(tmp_path, bash("some output", language="console")), tmp_path)


@pytest.mark.parametrize(
    ("lines", "line", "status"),
    [
        (["true", "false", "touch after"], 3, 1),
        (["false && true", "touch after"], 2, 1),
        (["(exit 3) | cat", "touch after"], 2, 3),
        (["true", "", "no-such-command-here", "touch after"], 4, 127),
        (["cd /no/such/folder", "touch after"], 2, 1),
        (["touch after; rm after; exit 5"], 2, 5),
    ],
)
def test_a_command_that_fails_is_named_and_ends_the_page(
    tmp_path: Path, lines: list[str], line: int, status: int
) -> None:
    page = write(tmp_path, bash(*lines) + bash("touch later"))
    with pytest.raises(BlockError, match=rf"page\.md:{line}: exit code {status} of: "):
        run_page(page, tmp_path)
    assert not (tmp_path / "after").exists()
    assert not (tmp_path / "later").exists()


def test_a_block_that_ends_before_its_last_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"page\.md:2: it ended before its last command"):
        run_page(write(tmp_path, bash("exit 0", "touch after")), tmp_path)


def test_a_command_that_reads_its_input_does_not_eat_the_commands_after_it(tmp_path: Path) -> None:
    run_page(write(tmp_path, bash("cat", "touch after")), tmp_path)
    assert (tmp_path / "after").exists()


def test_the_output_of_a_failed_command_is_shown(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"(?s)of: ls.*No such file"):
        run_page(write(tmp_path, bash("ls no-such-file-here")), tmp_path)


def test_folder_and_variables_last_within_a_block_and_files_within_a_page(tmp_path: Path) -> None:
    page = write(
        tmp_path, bash("mkdir sub", "cd sub", "name=x", "touch $name") + bash("test -f sub/x", 'test -z "$name"')
    )
    assert run_page(page, tmp_path) == 2


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TIMEOUT", 0.5)
    with pytest.raises(BlockError, match=r"page\.md:2: not done after 0\.5 s"):
        run_page(write(tmp_path, bash("sleep 60 | cat")), tmp_path)


def test_python_blocks_share_a_namespace_and_the_folder_with_bash(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        bash("x = 20", "def f():", "    return x + 1", language="python")
        + bash("echo 21 > expected")
        + bash("import pathlib", "assert f() == int(pathlib.Path('expected').read_text())", language="python"),
    )
    before = os.getcwd()
    assert run_page(page, tmp_path) == 3
    assert os.getcwd() == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x = 1", "assert x == 2"], r"page\.md:3: AssertionError"),
        (["x = (", "y"], r"page\.md:2: SyntaxError"),
        (["def f():", "    return no_such_name", "f()"], r"page\.md:3: NameError"),
        (["import sys", "sys.exit(0)"], r"page\.md:3: SystemExit"),
    ],
)
def test_a_python_block_that_fails_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    before = os.getcwd()
    with pytest.raises(BlockError, match=message):
        run_page(write(tmp_path, bash(*lines, language="python")), tmp_path)
    assert os.getcwd() == before


def test_commands_find_the_programs_of_this_virtual_environment_first() -> None:
    import sys

    first = runner.environment_for_commands()["PATH"].split(os.pathsep)[0]
    assert Path(first) == Path(sys.executable).parent


def test_a_make_target_that_does_not_exist_is_named(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("demo:\n\ttouch made\n")
    page = write(tmp_path, bash("cd somewhere", "make demo  # a remark", "make dmeo", language="bash norun: because"))
    (block,) = blocks(page)
    assert runner.unknown_make_targets(block, tmp_path) == ["make dmeo"]
    assert not (tmp_path / "made").exists()


def test_the_pages_are_read_me_contributing_and_docs(tmp_path: Path) -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/a.md", "docs/decisions/0001.md", "src/x.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = [page.relative_to(tmp_path).as_posix() for page in runner.pages(tmp_path)]
    assert found == ["README.md", "CONTRIBUTING.md", "docs/a.md", "docs/decisions/0001.md"]


def test_what_a_failed_block_left_running_is_ended(tmp_path: Path) -> None:
    page = write(tmp_path, bash("sleep 300 > /dev/null 2>&1 &", "echo $! > pid", "false"))
    with pytest.raises(BlockError):
        run_page(page, tmp_path)
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    deadline = time.monotonic() + 30
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
