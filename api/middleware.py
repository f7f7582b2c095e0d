"""What every request goes through: an id, a log line, a count, safe headers, and a guard over its body."""

import asyncio
import logging
import re
import time
import uuid
from http import HTTPMethod

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError
from api.logs import log
from api.mapper import internal_error
from api.metrics import Metrics

JSON_LIMIT_BYTES = 1 << 20
PATIENCE_SECONDS = 15.0
LEAST_BYTES_PER_SECOND = 16 << 10

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


class BodyGuard:
    """Wraps `receive`: limits the size of a request body (JSON routes) and how long it lets itself be waited for.

    Waiting uses patience up, bytes give it back at the least rate: who stops is cut off after `PATIENCE_SECONDS`, and
    so is who trickles. What this process takes for its own work does not count.
    """

    def __init__(self, receive: Receive, limit_bytes: int | None) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._seen_bytes = 0
        self._patience = PATIENCE_SECONDS
        self.complete = False

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()
        message = await self._wait()
        self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        self._seen_bytes += len(message.get("body", b""))
        if self._limit_bytes is not None and self._seen_bytes > self._limit_bytes:
            raise ApiError(
                "body-too-large",
                f"The body is larger than {self._limit_bytes} bytes.",
                limit_bytes=self._limit_bytes,
            )
        return message

    async def _wait(self) -> Message:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(
                "body-too-slow",
                f"The body stopped, or came with less than {LEAST_BYTES_PER_SECOND} bytes a second.",
                patience_seconds=PATIENCE_SECONDS,
                least_bytes_per_second=LEAST_BYTES_PER_SECOND,
            ) from None
        earned = len(message.get("body", b"")) / LEAST_BYTES_PER_SECOND
        self._patience = min(PATIENCE_SECONDS, self._patience - (time.monotonic() - began) + earned)
        return message


def _is_upload(scope: Scope) -> bool:
    """Uploads count their own bytes: their limit depends on the file."""
    path, method = scope["path"], scope["method"]
    return bool(path == "/files" if method == "POST" else method == "PATCH" and path.startswith("/files/resumable/"))


class Observe:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        scope.setdefault("state", {}).update(request_id=exchange.request_id, answer_headers={})
        try:
            await self.app(scope, exchange.guard, exchange.send)
        except Exception as error:
            log("request failed", level=logging.ERROR, error=error, request_id=exchange.request_id)
            if exchange.status is not None:
                raise  # the answer has begun: let the server cut the connection
            await internal_error(exchange.request_id)(scope, receive, exchange.send)
        finally:
            self._record(exchange)

    def _record(self, exchange: "Exchange") -> None:
        route = exchange.route()
        method, seconds = exchange.method(), time.perf_counter() - exchange.started
        self.metrics.requests.labels(method, route, str(exchange.status or 499)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        log(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=route,
            status=exchange.status or 499,
            ms=round(seconds * 1000, 1),
            key_id=exchange.scope["state"].get("key_id"),
        )


class Exchange:
    """One request and its answer, as the middleware sees them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.guard = BodyGuard(receive, None if _is_upload(scope) else JSON_LIMIT_BYTES)
        self._has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._send = send
        self.started = time.perf_counter()
        self.status: int | None = None

    def method(self) -> str:
        """The method; one that HTTP does not know gets no label of its own."""
        method = self.scope["method"]
        return str(method) if method in HTTPMethod.__members__ else "OTHER"

    def route(self) -> str:
        """The route's template, so that ids do not become labels; `-` where no route was found."""
        return str(getattr(self.scope.get("route"), "path", "-"))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in {**_SAFE_HEADERS, **self.scope["state"]["answer_headers"]}.items():
                headers.setdefault(name, value)
            if self._has_body and not self.guard.complete:
                # Else the server would read the rest of a refused upload, gigabytes of it, before the next request.
                headers["connection"] = "close"
        await self._send(message)
