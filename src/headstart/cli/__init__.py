"""The command line: one short file a verb, loaded only when that verb is used."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import click

from headstart.core.errors import HeadstartError, unknown_name

VERBS = {
    "fit": "Learn a classifier from a folder of labelled pictures.",
    "predict": "Name what is in pictures.",
    "evaluate": "Measure a model on labelled pictures it has not seen.",
    "report": "Write the report of a model: figures, mistakes, confidence.",
    "compare": "Choose a backbone, a head and a method on the same splits of the same pictures.",
    "explain": "Show where a model looked in pictures, and the training pictures most like them.",
    "check": "Say what is wrong with a folder of labelled pictures.",
    "export": "Write a model for another runtime, proved on pictures.",
    "preview": "Draw what the network sees of pictures: crop, plain and augmented.",
    "recipes": "List the tutorials that fit --recipe runs.",
    "summary": "Show a network layer group by layer group, trainable or frozen.",
    "serve": "Answer over HTTP.",
    "models": "List the pretrained backbones and what is usable now.",
    "cache": "Show or clear the cache of features.",
    "demo": "Run the whole job on handwritten digits.",
}
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose verbs are imported when used, so that --help and predict start at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a first day's work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb's command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"headstart.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; an unknown one is told with the nearest."""
        if args[0] not in VERBS and not ctx.resilient_parsing:  # completion asks without wanting an answer
            raise unknown_name("command", args[0], VERBS, "`headstart --help`")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="headstart")
def app() -> None:
    """Turn a folder of labelled pictures into an image classifier you can trust."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors are one line on standard error and exit code 2."""
    if arguments is None:  # this process is ours
        from headstart.cli.process import keep_freed_memory, spin_briefly

        spin_briefly()
        if sys.argv[1:2] == ["fit"]:
            keep_freed_memory()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note
            app.main(args=arguments, prog_name="headstart", standalone_mode=False)
    except HeadstartError as error:
        _fail(str(error), 2)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "headstart"
        _fail(f"{error.format_message().rstrip('.')}. `{command} --help` tells what it takes.", 2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort) as stop:
        # click turns the one into the other, which has no text.
        how = str(stop.__cause__ or stop) or "The same command continues from the features cached so far."
        _fail(f"interrupted; nothing half-written is left. {how}", INTERRUPTED)
    except BrokenPipeError:  # `headstart … | head`
        sys.stderr.close()
        sys.exit(0)
    except (MemoryError, OSError) as error:  # a full disk or short memory somewhere unforeseen
        _fail(f"{error or 'memory is short'}. Free some memory or disk space, and check the paths.", 2)


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"note: {message}", err=True)  # without the file and line that Python puts before it


def _fail(message: str, code: int) -> None:
    click.echo(f"headstart: {message}", err=True)
    sys.exit(code)
