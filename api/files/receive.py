"""Takes an upload from the wire to the disk: in a thread, while more of it comes, and never whole in memory."""

import asyncio
import time
from collections.abc import Callable

import anyio
import anyio.to_thread
from starlette.requests import Request

from api.dependencies import Parts
from api.errors import ApiError

_MOST_WAITING_BYTES = 1 << 20

Take = Callable[[bytes], object]


async def receive(request: Request, take: Take, *, limit_bytes: int, parts: Parts) -> int:
    """Give the request's body to `take`, piece by piece, in one of the threads that write; returns its bytes.

    Raises ApiError `body-too-large` as soon as the limit is passed (before a byte is read where the client says how
    much will come), `body-too-slow`, starlette's ClientDisconnect, and what `take` raises. What came before that, and
    within the limit, has been given to `take`.
    """
    if int(request.headers.get("content-length", "0")) > limit_bytes:
        raise _too_large(limit_bytes)
    total, behind, began = 0, _Behind(take, parts.writers), time.perf_counter()
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > limit_bytes:
                raise _too_large(limit_bytes)
            await behind.add(chunk)
    finally:
        await behind.finish()
    parts.metrics.receive_seconds.observe(time.perf_counter() - began)
    return total


class _Behind:
    """Bytes on their way to a thread. A body that pauses leaves none of them in memory."""

    def __init__(self, take: Take, writers: anyio.CapacityLimiter) -> None:
        self._take, self._writers = take, writers
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._taken = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None

    async def add(self, chunk: bytes) -> None:
        """Returns at once unless too much waits already. Raises what the thread raised."""
        if self._drain is not None and self._drain.done():
            await self.finish()
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_all())
        while self._waiting_bytes >= _MOST_WAITING_BYTES and not self._drain.done():
            self._taken.clear()
            await self._taken.wait()

    async def finish(self) -> None:
        """Wait until the thread has taken everything; raises what it raised."""
        drain, self._drain = self._drain, None
        if drain is not None:
            await drain

    async def _drain_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
                self._taken.set()
                await anyio.to_thread.run_sync(self._take_all, batch, limiter=self._writers)
        finally:
            self._taken.set()

    def _take_all(self, batch: list[bytes]) -> None:
        for chunk in batch:
            self._take(chunk)


def _too_large(limit_bytes: int) -> ApiError:
    return ApiError("body-too-large", f"No more than {limit_bytes} bytes are taken here.", limit_bytes=limit_bytes)
