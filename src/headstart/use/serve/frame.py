"""What is around every request: who may ask, headers for browsers, our own failures, the access log, the metrics."""

from __future__ import annotations

import time
import traceback
import uuid
from typing import TYPE_CHECKING

from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.requests import Request

from headstart.use.serve import guards
from headstart.use.serve.log import event
from headstart.use.serve.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST = 2_000  # characters of a word of the client's in the log


class Frame:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, access: guards.Access, access_log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._access = access
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # HEAD is GET without the body, at every address; uvicorn sends none where it heard HEAD.
        method = scope["method"]
        scope = {**scope, "method": "GET"} if method == "HEAD" else scope
        start = time.perf_counter()
        identity = uuid.uuid4().hex
        status = 0

        async def framed(message: Message) -> None:
            """Send a message on, with our headers, and remember the status."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {**guards.HEADERS, "x-request-id": identity, "cache-control": "no-store"}
                had = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in own.items() if name.encode() not in had),
                ]
            elif method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        async def answered(scope: Scope, receive: Receive, send: Send) -> None:
            """Answer, by 500 where the application fails."""
            try:
                await self._guarded(scope, receive, send)
            except Exception:
                if status:  # half an answer is out: uvicorn logs it and closes the connection
                    raise
                event("failure", id=identity, traceback=traceback.format_exc())
                told = JSONResponse({"error": "the server failed; its log says how."}, status_code=500)
                await told(scope, receive, send)

        try:
            await self._readable(answered, scope)(scope, receive, framed)
        finally:
            self._note(scope, method, status or 500, time.perf_counter() - start, identity)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = guards.foreign(Request(scope).headers, self._access)
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"error": reason}, status_code=403)(scope, receive, send)

    def _readable(self, app: ASGIApp, scope: Scope) -> ASGIApp:
        """Return what lets pages of the allowed sites read every answer, refusals and our own failures too."""
        if Request(scope).headers.get("origin") not in self._access.origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )

    def _note(self, scope: Scope, sent: str, status: int, seconds: float, identity: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        # A client may send any word as its method: each would be kept for ever.
        method = sent if route != "other" and sent in METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if self._access_log:
            event(
                "request",
                id=identity,
                client=scope["client"][0] if scope.get("client") else None,
                method=sent[:_LONGEST],
                path=scope["path"][:_LONGEST],
                status=status,
                ms=round(1000 * seconds, 1),
                **scope.get("state", {}),
            )
