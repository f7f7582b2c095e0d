"""Takes an upload from the wire to the disk: counted and hashed on the way, never whole in memory."""

import hashlib
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
    """Write the request's body to `path`.

    Raises ApiError `body-too-large` as soon as the limit is passed (before a byte is read where the client says how
    much will come), `body-too-slow`, and starlette's ClientDisconnect. The caller removes the file.
    """
    if int(request.headers.get("content-length", "0")) > limit_bytes:
        raise _too_large(limit_bytes)
    digest, total, batch = hashlib.sha256(), 0, bytearray()

    def flush() -> None:
        digest.update(batch)
        file.write(batch)
        batch.clear()

    with path.open("xb") as file:
        async for chunk in request.stream():
            total += len(chunk)
            if total > limit_bytes:
                raise _too_large(limit_bytes)
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                await run_in_threadpool(flush)
        await run_in_threadpool(flush)
    return Received(path, total, digest.hexdigest())


def _too_large(limit_bytes: int) -> ApiError:
    return ApiError(
        "body-too-large", f"A file of this kind may have {limit_bytes} bytes at most.", limit_bytes=limit_bytes
    )
