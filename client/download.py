"""Downloads that resume after a broken connection and are checked by SHA-256 before they appear under their name."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from client.errors import DownloadBroken, NotFound
from client.transport import Transport, raise_for

CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(
    transport: Transport,
    path: str,
    target: Path,
    *,
    sha256: str | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """Writes `path` of the service to `target` and returns it; without `sha256` the answer's own ETag must agree.

    Parts lie in `<target>.part` until the SHA-256 agrees, so `target` is whole or absent; a part that is already there
    is continued by Range. `on_bytes` receives the number of bytes written so far.
    Raises `DownloadBroken` when the bytes are not those announced, and `Problem` or `Unreachable` as every exchange.
    """
    part = target.with_name(target.name + ".part")
    try:
        with transport.named_errors():
            tag = transport.retrying()(_continue, transport, path, part, on_bytes)
    except NotFound:
        part.unlink(missing_ok=True)
        raise
    found, announced = _sha256(part), sha256 or tag
    if announced is not None and found != announced:
        part.unlink()
        raise DownloadBroken(
            f"{target.name} has the SHA-256 {found}, the service announced {announced}. Download it again."
        )
    os.replace(part, target)
    return target


def _continue(transport: Transport, path: str, part: Path, on_bytes: Callable[[int], None] | None) -> str | None:
    """One try: asks for what is missing of `part` and appends it. The SHA-256 that the ETag is, where it is one."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with transport.http.stream("GET", path, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None  # nothing is missing; the checksum has the last word
        raise_for(response)
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as out:
            for chunk in response.iter_bytes(CHUNK):
                out.write(chunk)
                if on_bytes:
                    on_bytes(out.tell())
        tag = response.headers.get("ETag", "").strip('"')
        return tag if _SHA256.fullmatch(tag) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
