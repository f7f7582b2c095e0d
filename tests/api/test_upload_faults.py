"""Uploads while the disk is full and while the API is killed. Each test runs its own server on its own storage."""

import random
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from store.database import transaction
from store.settings import Settings
from store.storage import UNFINISHED, LocalStorage
from store.tables import File
from tests.api.conftest import CLASSES, Server, Tenant, model_bytes, problem, serving, zip_of
from tests.scale import KILLED_UPLOADS
from tests.small_disk import fill, small_disk
from worker.orphans import collect
from worker.room import make_room

AT_ONCE = 20
TOMORROW = 1.5 * 86_400.0
PARTS = 16


def rows(tenant: Tenant) -> list[File]:
    with transaction(tenant.database) as session:
        return list(session.scalars(select(File).where(File.tenant_id == tenant.id)))


def kept(storage: Path) -> list[Path]:
    """Every file, named or not."""
    return [path for path in storage.rglob("*") if path.is_file()]


class Sender:
    """Uploads to a server that may die at any moment."""

    def __init__(self, server: Server, tenant: Tenant) -> None:
        self._address = f"{server.url}/files"
        self._headers = {"Authorization": f"Bearer {tenant.key}"}

    def send(self, kind: str, content: bytes, *, pause: Callable[[], None] = lambda: None) -> httpx.Response:
        def parts() -> Iterator[bytes]:
            size = -(-len(content) // PARTS)
            for start in range(0, len(content), size):
                pause()
                yield content[start : start + size]

        return httpx.post(self._address, params={"kind": kind}, content=parts(), headers=self._headers, timeout=60)


@pytest.fixture(scope="module")
def small_server(api_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server whose storage is a small disk, and that disk."""
    folder = tmp_path_factory.mktemp("small")
    with small_disk(folder / "storage", 8 << 20) as disk:
        own = api_settings.model_copy(update={"storage_url": disk.as_uri()})
        with serving(own, folder) as server:
            server.wait_until_ready("/healthz")
            yield server, disk


@pytest.mark.parametrize("kind", ["model", "clean"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.5], ids=["no room", "room for half", "no room for a second form"])
def test_an_upload_to_a_full_disk_is_a_507_and_leaves_nothing(
    small_server: tuple[Server, Path], tenant: Tenant, kind: str, share: float
) -> None:
    server, disk = small_server
    content = model_bytes(width=8) if kind == "model" else zip_of(CLASSES)
    before = kept(disk)
    filler = fill(disk, leave=int(share * len(content)))
    try:
        problem(Sender(server, tenant).send(kind, content), 507, "storage-full")
        assert set(kept(disk)) == {filler, *before}
        assert rows(tenant) == []
    finally:
        filler.unlink()
    assert Sender(server, tenant).send(kind, content).status_code == 201, "with room it is taken"


@pytest.mark.parametrize("uploads", KILLED_UPLOADS)
def test_a_killed_api_leaves_no_part_of_an_upload(
    api_settings: Settings, tmp_path: Path, tenant: Tenant, uploads: int
) -> None:
    own = api_settings.model_copy(update={"storage_url": (tmp_path / "storage").as_uri()})
    storage, chance, accepted = LocalStorage(own.storage_root), random.Random(8), []
    contents = [model_bytes() for _ in range(AT_ONCE)]
    for _ in range(uploads // AT_ONCE):  # each kill breaks that many
        with serving(own, tmp_path) as server:
            server.wait_until_ready("/healthz")
            accepted += kill_during_uploads(server, Sender(server, tenant), contents, chance)
    found = {row.id: row for row in rows(tenant)}
    assert set(accepted) <= found.keys(), "what was answered 201 is there"
    for row in found.values():
        storage.verify(str(row.canonical_path), row.canonical_sha256)

    room = make_room(own)
    collect(room, now=time.time() + TOMORROW)
    room.storage.remove_unfinished(older_than_seconds=86_400, now=time.time() + TOMORROW)
    room.factory.kw["bind"].dispose()
    assert {str(path.relative_to(storage.root)) for path in kept(storage.root)} == {
        row.canonical_path for row in found.values()
    }
    assert list((storage.root / UNFINISHED).iterdir()) == []


def varied(model: bytes, chance: random.Random) -> bytes:
    """Another model of the same size: the same one again would not be stored again."""
    return model[:-4] + struct.pack("<f", chance.random())


def kill_during_uploads(server: Server, sender: Sender, contents: list[bytes], chance: random.Random) -> list[UUID]:
    """Kill -9 while twenty clients upload, each one wherever it is. Returns the ids that were answered 201."""
    accepted: list[UUID] = []
    some_accepted, wanted = Event(), chance.randrange(1, 6)

    def upload_on_and_on(number: int) -> None:
        own_chance = random.Random(number)
        while True:
            try:
                answer = sender.send(
                    "model",
                    varied(contents[number], own_chance),
                    pause=lambda: time.sleep(own_chance.choice([0.0, 0.0, 0.02])),
                )
            except httpx.TransportError:
                return
            accepted.append(UUID(answer.raise_for_status().json()["id"]))
            if len(accepted) >= wanted:
                some_accepted.set()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(upload_on_and_on, number) for number in range(AT_ONCE)]
        assert some_accepted.wait(120)
        time.sleep(chance.random() * 0.2)
        server.process.kill()
        for one in running:
            one.result()
    return accepted
