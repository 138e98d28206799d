"""`headstart serve MODEL…`: answer over HTTP, without torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from socket import socket

    from fastapi import FastAPI

    from headstart.core.runtime import Precision
    from headstart.use.serve.models import Models


def _size(ctx: click.Context, option: click.Parameter, value: str) -> int:
    from headstart.core.settings import parse_size

    return parse_size(value)


@click.command("serve")
@click.argument("folders", nargs=-1, required=True, metavar="[NAME=]MODEL…")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--reload-model", is_flag=True, help="Pick up a new model in a model's folder while serving.")
@click.option("--api-keys", metavar="FILE", help="API keys, one a line. Else the variable HEADSTART_API_KEYS.")
@click.option("--allow-origin", multiple=True, metavar="ORIGIN", help="Let pages of this site call. Repeatable.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Answer to this name too. Repeatable.")
@click.option("--max-body", default="32M", show_default=True, callback=_size, help="Largest body of a request.")
@click.option("--max-pixels", type=int, default=50_000_000, show_default=True, help="Largest picture.")
@click.option("--max-files", type=int, default=32, show_default=True, help="Most pictures in a request.")
@click.option("--queue", type=int, default=64, show_default=True, help="How many pictures may wait.")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds a request may take.")
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="A JSON line a request.")
def command(
    folders: tuple[str, ...],
    host: str,
    port: int,
    precision: Precision,
    reload_model: bool,
    api_keys: str | None,
    allow_origin: tuple[str, ...],
    allow_host: tuple[str, ...],
    max_body: int,
    max_pixels: int,
    max_files: int,
    queue: int,
    timeout: float,
    access_log: bool,
) -> None:
    """Answer over HTTP with one or more models: POST /predict, and more at /openapi.json.

    Stops on Ctrl-C or SIGTERM when the requests under way are answered.
    """
    _check_installed()
    from headstart.use.serve import guards
    from headstart.use.serve.app import create_app
    from headstart.use.serve.limits import Limits
    from headstart.use.serve.models import Models
    from headstart.use.serve.run import bind

    _warn_of_bfloat16(precision)
    limits = Limits(max_body, max(max_body, Limits.bodies), max_pixels, max_files, queue, timeout)
    access = guards.Access(
        guards.read_keys(api_keys), guards.hosts_for(host, allow_host), guards.check_origins(allow_origin)
    )
    bound = bind(host, port)  # before the models are read: a port that is taken is said at once
    models = Models(folders, precision=precision)
    if not guards.is_loopback(host):
        click.echo(
            f"headstart: listening at {host}, so that other machines can reach it"
            + ("." if access.keys else ", and no API key is needed: give --api-keys, or a proxy that asks for one."),
            err=True,
        )
    app = create_app(models, limits, access, reload=reload_model, access_log=access_log)
    _serve(app, bound, models, timeout)


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise click.ClickException(f"{error.name} is not installed: pip install 'headstart[serve]'.") from None


def _warn_of_bfloat16(precision: Precision) -> None:
    from headstart.core.runtime import has_bfloat16

    if precision == "bfloat16" and not has_bfloat16():
        click.echo("headstart: this processor has no bfloat16: it will be slow.", err=True)


def _serve(app: FastAPI, bound: socket, models: Models, grace: float) -> None:
    from headstart.use.serve.run import run

    name, actual = bound.getsockname()[:2]
    address = f"http://{f'[{name}]' if ':' in name else name}:{actual}"

    def ready() -> None:
        click.echo(f"{', '.join(one.name for one in models)} at {address}  (stop with Ctrl-C)")
        sys.stdout.flush()

    run(app, bound, grace=grace, ready=ready)
