"""Uploads large files by tus 1.0: after a broken connection it goes on where the service says that it is."""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import httpx

from client.errors import Problem, ServerError, Unreachable, problem_from
from client.transport import Transport

CHUNK = 1 << 20
PATIENCE = 120.0  # seconds without one more byte at the service, after which it is given up
_PAUSE = 1.0
_GO_ON = frozenset({"upload-offset-differs", "upload-in-use", "body-too-slow"})
_TUS = {"Tus-Resumable": "1.0.0"}


class ResumableUpload:
    """One file on its way. `on_bytes` receives the bytes sent so far, fewer after a setback."""

    def __init__(
        self, transport: Transport, file: BinaryIO, *, name: str, kind: str, on_bytes: Callable[[int], None] | None
    ) -> None:
        self._transport, self._file, self._on_bytes = transport, file, on_bytes
        self._length = file.seek(0, 2)
        said = {"kind": kind, "filename": name}
        told = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
        headers = {**_TUS, "Upload-Length": str(self._length), "Upload-Metadata": told}
        self._address = transport.request("POST", "/files/resumable", headers=headers).headers["Location"]

    def send(self) -> Any:
        """The file as the service shows it.

        Raises a Problem for what the service refuses, and Unreachable when no byte has got through for `PATIENCE`.
        """
        start, moved_at = 0, time.monotonic()
        while True:
            try:
                done = self._send_from(start)
                return self._transport.request("GET", done.headers["Content-Location"]).json()
            except httpx.TransportError as error:
                failure: Exception = Unreachable(f"No answer from {self._transport.base_url}: {error}")
            except Problem as error:
                if error.type not in _GO_ON and error.status not in (502, 503, 504):
                    raise
                failure = error
            if time.monotonic() - moved_at > PATIENCE:
                raise failure
            time.sleep(_PAUSE)
            now = self._offset(start)
            if now > start:
                moved_at = time.monotonic()
            start = now

    def _send_from(self, start: int) -> httpx.Response:
        headers = {
            **_TUS,
            "Upload-Offset": str(start),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self._length - start),
        }
        answer = self._transport.http.patch(self._address, content=self._pieces(start), headers=headers)
        if not answer.is_success:
            raise problem_from(answer)
        return answer

    def _pieces(self, start: int) -> Iterator[bytes]:
        self._file.seek(start)
        while chunk := self._file.read(CHUNK):
            yield chunk
            if self._on_bytes:
                self._on_bytes(self._file.tell())

    def _offset(self, known: int) -> int:
        """How far the service says that it is; what was known where it does not answer."""
        try:
            return int(self._transport.request("HEAD", self._address, headers=_TUS).headers["Upload-Offset"])
        except (Unreachable, ServerError):
            return known
