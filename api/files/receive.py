"""Takes an upload from the wire to the disk: counted on the way, never whole in memory."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.errors import ApiError

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """An upload on disk; `sha256` is lower-case hex."""

    path: Path
    bytes: int
    sha256: str


async def receive(request: Request, path: Path, limit_bytes: int) -> Received:
    """Write the request's body to `path`, and hash it.

    Raises ApiError `body-too-large` as soon as the limit is passed (before a byte is read where the client says how
    much will come), `body-too-slow`, and starlette's ClientDisconnect. The caller removes the file.
    """
    digest, total = hashlib.sha256(), 0

    def keep(batch: bytearray) -> None:
        digest.update(batch)
        file.write(batch)

    with path.open("xb") as file:
        async for batch in _batches(request, limit_bytes):
            await run_in_threadpool(keep, batch)
            total += len(batch)
    return Received(path, total, digest.hexdigest())


async def append(request: Request, path: Path, limit_bytes: int) -> None:
    """Write the request's body behind what `path` holds. What came before an error stays, but for its last MiB.

    Raises as `receive` does.
    """
    with path.open("ab", buffering=0) as file:
        try:
            async for batch in _batches(request, limit_bytes):
                await run_in_threadpool(_write_all, file.fileno(), batch)
        finally:
            await run_in_threadpool(os.fsync, file.fileno())


def _write_all(descriptor: int, batch: bytearray) -> None:
    left = memoryview(batch)
    while left:
        left = left[os.write(descriptor, left) :]


async def _batches(request: Request, limit_bytes: int) -> AsyncIterator[bytearray]:
    """The body in pieces of a MiB or a little more, the last one smaller."""
    if int(request.headers.get("content-length", "0")) > limit_bytes:
        raise _too_large(limit_bytes)
    total, batch = 0, bytearray()
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        batch += chunk
        if len(batch) >= _BATCH_BYTES:
            yield batch
            batch = bytearray()
    if batch:
        yield batch


def _too_large(limit_bytes: int) -> ApiError:
    return ApiError("body-too-large", f"Here {limit_bytes} bytes are accepted at most.", limit_bytes=limit_bytes)
