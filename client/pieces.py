"""Sends large files in pieces (tus 1.0), so that a lost connection costs what was under way and not the gigabytes."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import httpx

from client.transport import Transport, raise_for

FROM_BYTES = 64 << 20  # smaller files go in one request
CHUNK = 1 << 20
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_PIECE: Final = {"Content-Type": "application/offset+octet-stream"}


def send(transport: Transport, file: BinaryIO, *, name: str, kind: str, on_bytes: Callable[[int], None] | None) -> str:
    """Uploads `file`, going on after lost connections; the id of what it became. Raises Problem, Unreachable."""
    address = _begin(transport, file, name, kind)

    def go_on() -> httpx.Response:
        state = transport.http.head(address, headers=_TUS)
        raise_for(state)
        if "ModeConn-File" in state.headers:
            return state
        offset = int(state.headers["Upload-Offset"])
        headers = _TUS | _PIECE | {"Upload-Offset": str(offset)}
        ended = transport.http.patch(address, content=_from(file, offset, on_bytes), headers=headers)
        raise_for(ended)
        return ended

    with transport.named_errors():
        return str(transport.retrying()(go_on).headers["ModeConn-File"])


def _begin(transport: Transport, file: BinaryIO, name: str, kind: str) -> str:
    length = file.seek(0, 2)
    file.seek(0)
    said = {"kind": kind, "filename": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
    headers = _TUS | {"Upload-Length": str(length), "Upload-Metadata": metadata}
    return str(transport.request("POST", "/files/resumable", headers=headers).headers["Location"])


def _from(file: BinaryIO, offset: int, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    file.seek(offset)
    while chunk := file.read(CHUNK):
        yield chunk
        if on_bytes:
            on_bytes(file.tell())
