"""An upload under a test's own control, byte by byte."""

import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.api.conftest import Server, Tenant


class RawUpload:
    """A connection on which the head of `POST /files` has been sent."""

    def __init__(self, server: Server, tenant: Tenant, kind: str, framing: str) -> None:
        url = httpx.URL(server.url)
        self.socket = socket.create_connection((url.host, url.port or 80), timeout=30)
        # as /proc/net/tcp writes them; a connection that was cut can no longer be asked for its other end
        self._ports = tuple(f":{name[1]:04X}" for name in (self.socket.getsockname(), self.socket.getpeername()))
        headers = ("Host: test", f"Authorization: Bearer {tenant.key}", framing)
        head = "\r\n".join((self.request_line(kind), *headers))
        self.socket.sendall(f"{head}\r\n\r\n".encode())

    def request_line(self, kind: str) -> str:
        """The first line of the request."""
        return f"POST /files?kind={kind} HTTP/1.1"

    def unread(self) -> int:
        """Bytes that have reached the server's end of the connection, and that it has not read; none once it is cut."""
        ours, theirs = self._ports
        for line in Path("/proc/net/tcp").read_text().splitlines():
            _, local, remote, _, queues, *_ = line.split()
            if local.endswith(theirs) and remote.endswith(ours):
                return int(queues.partition(":")[2], 16)
        return 0

    def send_until_answered(self, piece: bytes, most: int) -> int:
        """Send pieces until the server has answered or cut the line; the number of bytes that went out.

        Each piece waits until the server has read the ones before: what its kernel holds meanwhile (32 MiB here) it has
        not taken.
        """
        sent = 0
        self.socket.setblocking(True)
        while sent < most:
            try:
                self.socket.sendall(piece)
            except OSError:
                break
            sent += len(piece)
            while self.unread() > len(piece):
                time.sleep(0.0005)
            self.socket.settimeout(0.001)
            try:
                if self.socket.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                pass
            except OSError:
                break
            self.socket.settimeout(30)
        self.socket.settimeout(30)
        return sent

    def answer(self) -> tuple[bytes, bytes]:
        """Head and body, read to the end of the connection: a reset, where bytes of ours were still on their way."""
        received = b""
        with suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        return head.lower(), body
