"""A TCP proxy between client and API, as an operator's balancer: it can cut off answers and break connections."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from client.serving.embedded import LOCALHOST

_CHUNK_BYTES = 1 << 16
_PAUSE = 0.05


@dataclass
class Proxy:
    """Forwards each connection to one of the ports that answers, and drops a share of the answers unread.

    A connection breaks after `most_bytes` from the client.
    """

    upstreams: list[int]
    cut_share: float = 0.0
    most_bytes: int | None = None
    port: int = 0
    cut: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    async def serve(self, started: threading.Event, over: asyncio.Event) -> None:
        server = await asyncio.start_server(self._carry, LOCALHOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await over.wait()
        server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await self._connect()
        with suppress(ConnectionError):
            ways = [asyncio.create_task(self._ask(reader, forth)), asyncio.create_task(self._answer(back, writer))]
            _, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                task.cancel()
        for end in (forth, writer):
            end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            for port in self._random.sample(self.upstreams, len(self.upstreams)):
                with suppress(OSError):
                    return await asyncio.open_connection(LOCALHOST, port)
            await asyncio.sleep(_PAUSE)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.most_bytes
        while chunk := await reader.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)):
            writer.write(chunk)
            await writer.drain()
            left = None if left is None else left - len(chunk)
        if left == 0:
            self.cut += 1

    async def _answer(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await back.read(_CHUNK_BYTES):
            if self._random.random() < self.cut_share:
                self.cut += 1
                return
            writer.write(chunk)
            await writer.drain()


@contextmanager
def proxied(upstreams: list[int], *, cut_share: float = 0.0, most_bytes: int | None = None) -> Iterator[Proxy]:
    """A proxy in a thread of its own, until the block ends."""
    proxy, started = Proxy(upstreams, cut_share, most_bytes), threading.Event()
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.serve(started, over)))
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
