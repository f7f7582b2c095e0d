"""Bodies that do not end, that lie about their length, that hardly move: cut off, and nobody else notices."""

import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from api.middleware import LEAST_BYTES_PER_SECOND, PATIENCE_SECONDS
from store.settings import Settings
from tests.api.conftest import Server, Tenant, model_bytes, problem, serving
from tests.api.raw_upload import RawUpload
from tests.scale import HOSTILE_BODIES, HostileBodies

SLACK_BYTES = 8 << 20
MORE_MEMORY_BYTES = 50 << 20
CHUNK_BYTES = 1 << 20
STEADY_BYTES = model_bytes(width=8) + b"x"  # refused once it is read, not sooner


@pytest.fixture
def hostile_server(
    request: pytest.FixtureRequest, api_settings: Settings, tmp_path: Path, bodies: HostileBodies
) -> Iterator[tuple[Server, Path]]:
    """A server of this test's own, warmed up, and its storage."""
    limits = {"max_model_bytes": bodies.limit_bytes, "requests_per_minute": 100_000}
    own = api_settings.model_copy(update={"storage_url": (tmp_path / "storage").as_uri(), **limits})
    with serving(own, tmp_path) as server:
        server.wait_until_ready("/healthz")
        yield server, own.storage_root


def at(server: Server, tenant: Tenant) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {tenant.key}"}, timeout=60)


def bytes_in(storage: Path) -> int:
    total = 0
    for folder, _, names in os.walk(storage):
        for name in names:
            with suppress(FileNotFoundError):  # the server removes it just now
                total += os.stat(os.path.join(folder, name)).st_size
    return total


@retry(stop=stop_after_delay(30), wait=wait_fixed(0.05))
def assert_empty(storage: Path) -> None:
    assert bytes_in(storage) == 0


class Watch:
    """What others notice: how long `GET /quota` takes, how much memory and disk the server takes, at their worst."""

    def __init__(self, server: Server, storage: Path, http: httpx.Client) -> None:
        self._process, self._storage, self._http = psutil.Process(server.process.pid), storage, http
        self._base = self._process.memory_info().rss
        self.seconds: list[float] = []
        self.more_memory = self.stored = 0

    def look(self) -> None:
        began = time.perf_counter()
        self._http.get("/quota").raise_for_status()
        self.seconds.append(time.perf_counter() - began)
        self.more_memory = max(self.more_memory, self._process.memory_info().rss - self._base)
        self.stored = max(self.stored, bytes_in(self._storage))

    def __str__(self) -> str:
        p99 = statistics.quantiles(self.seconds, n=100)[-1] * 1000
        return f"{len(self.seconds)} requests, p99 {p99:.1f} ms, memory +{self.more_memory / (1 << 20):.1f} MiB"


@contextmanager
def watching(server: Server, storage: Path, tenant: Tenant) -> Iterator[Watch]:
    """Looks on while the block runs; prints what it saw."""
    with at(server, tenant) as http:
        refused = http.post("/files?kind=model", content=STEADY_BYTES)
        problem(refused, 422, "model-file-broken")
        for _ in range(20):
            http.get("/quota").raise_for_status()
        watch, over = Watch(server, storage, http), threading.Event()

        def look_on() -> None:
            while not over.wait(0.02):
                watch.look()

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look_on)
            try:
                yield watch
            finally:
                over.set()
                looking.result()
        print(watch)


@pytest.mark.parametrize("bodies", HOSTILE_BODIES)
def test_a_body_without_an_end_is_cut_at_the_limit(
    hostile_server: tuple[Server, Path], tenant: Tenant, bodies: HostileBodies
) -> None:
    server, storage = hostile_server
    with watching(server, storage, tenant) as watch:
        upload = RawUpload(server, tenant, "model", "Transfer-Encoding: chunked")
        piece = b"%x\r\n" % CHUNK_BYTES + bytes(CHUNK_BYTES) + b"\r\n"
        sent = upload.send_until_answered(piece, most=3 * bodies.limit_bytes)
    assert bodies.limit_bytes <= sent <= bodies.limit_bytes + SLACK_BYTES
    assert bodies.limit_bytes // 2 < watch.stored <= bodies.limit_bytes + SLACK_BYTES
    assert watch.more_memory <= MORE_MEMORY_BYTES
    assert_empty(storage)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bodies", HOSTILE_BODIES)
def test_slow_bodies_are_cut_off_and_nobody_else_waits_for_them(
    hostile_server: tuple[Server, Path], tenant: Tenant, bodies: HostileBodies
) -> None:
    server, storage = hostile_server
    with watching(server, storage, tenant) as watch:
        length = f"Content-Length: {bodies.limit_bytes}"
        slow = [RawUpload(server, tenant, "model", length) for _ in range(bodies.slow)]
        steady = RawUpload(server, tenant, "model", f"Content-Length: {len(STEADY_BYTES)}")
        with ThreadPoolExecutor(2) as pool:
            trickling = pool.submit(trickle, slow)
            kept_up = pool.submit(send_steadily, steady, STEADY_BYTES)
            answers = [upload.answer() for upload in slow]
            assert not kept_up.done(), "one that is slow but not too slow outlives them"
            trickling.result()
            kept_up.result()
    for head, body in answers:
        assert head.startswith(b"http/1.1 408")
        assert b"connection: close" in head
        assert json.loads(body)["type"] == "/problems/body-too-slow"
    assert json.loads(steady.answer()[1])["type"] == "/problems/model-file-broken"
    assert watch.more_memory <= MORE_MEMORY_BYTES
    assert_empty(storage)


def trickle(uploads: list[RawUpload]) -> None:
    """All begin with as much as a server might hold back; then some stop, the others go on byte by byte."""
    first = bytes(60_000)
    for upload in uploads:
        upload.socket.sendall(first)
    going_on = uploads[::2]
    while going_on:
        time.sleep(0.5)
        going_on = [upload for upload in going_on if goes_on(upload)]


def goes_on(upload: RawUpload) -> bool:
    try:
        upload.socket.sendall(b"x")
    except OSError:
        return False
    return True


def send_steadily(upload: RawUpload, content: bytes) -> None:
    """A little faster than it must be, and long enough to outlive those that are slower."""
    seconds = 2 * PATIENCE_SECONDS
    size = len(content) // 100
    assert size * 100 / seconds > LEAST_BYTES_PER_SECOND
    for start in range(0, len(content), size):
        upload.socket.sendall(content[start : start + size])
        time.sleep(seconds / 100)


def stop_early(upload: RawUpload) -> None:
    upload.socket.sendall(b"x" * 500)
    upload.socket.shutdown(socket.SHUT_WR)


def send_nothing(upload: RawUpload) -> None:
    """Its head is enough."""


def send_more(upload: RawUpload) -> None:
    upload.socket.sendall(b"x" * 1500)


def send_chunks(upload: RawUpload) -> None:
    upload.socket.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("framing", "send", "status"),
    [
        ("Content-Length: 1000", stop_early, b""),
        ("Content-Length: 1000", send_more, b"415"),
        ("Content-Length: 1000\r\nTransfer-Encoding: chunked", send_chunks, b"4"),
        ("Content-Length: -1", send_nothing, b"400"),
        ("Content-Length: 1000\r\nContent-Length: 2000", send_nothing, b"400"),
    ],
    ids=["less than it says", "more than it says", "two framings", "negative", "two lengths"],
)
@pytest.mark.parametrize("bodies", [HostileBodies(64 << 20, 0)], ids=[""])
def test_a_length_that_lies_leaves_nothing(
    hostile_server: tuple[Server, Path],
    tenant: Tenant,
    framing: str,
    send: Callable[[RawUpload], None],
    status: bytes,
) -> None:
    server, storage = hostile_server
    upload = RawUpload(server, tenant, "model", framing)
    send(upload)
    head, _ = upload.answer()
    assert head.startswith(b"http/1.1 " + status if status else b""), head
    assert_empty(storage)
