"""The process of the server: its socket, its signals, and a stop that finishes what is under way."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from headstart.core.errors import SettingError
from headstart.use.serve.log import JsonLines, only_json

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any that is free.

    Raises:
        SettingError: The address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        raise SettingError(
            f"{host} port {port} cannot be had ({error}). Choose another with --host or --port."
        ) from None
    return bound


def configure(app: FastAPI, grace: float) -> uvicorn.Config:
    """Return how uvicorn serves the application: no log of its own, no trust in proxies' headers."""
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(grace)),
    )


def run(app: FastAPI, bound: socket.socket, *, grace: float, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is under way and return.

    Args:
        app: What `create_app` returned.
        bound: What `bind` returned.
        grace: Seconds that requests under way may take after the signal.
        ready: Called when connections are answered.
    """
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(JsonLines(logging.WARNING))
    logger.propagate = False
    # uvicorn raises the signal again when it has stopped; that must not kill a process that ended well.
    before = {one: signal.signal(one, lambda number, frame: None) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        with only_json():
            asyncio.run(_serve(uvicorn.Server(configure(app, grace)), bound, ready))
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if app.state.service.left:
        # Taking the libraries down while a thread is inside them can end in a crash; nothing is left to be done.
        os._exit(0)


async def _serve(server: uvicorn.Server, bound: socket.socket, ready: Callable[[], None]) -> None:
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await serving
