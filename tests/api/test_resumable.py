"""Uploads in pieces: they go on after lost connections and dead servers, and become what a plain upload becomes."""

import base64
import hashlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import update
from tenacity import retry, stop_after_delay, wait_fixed

from client import Client, pieces
from store.database import transaction
from store.settings import Settings
from store.storage import UNFINISHED, LocalStorage
from store.tables import Tenant as TenantRow
from tests.api.conftest import CLASSES, MAX_MODEL_BYTES, Server, Tenant, model_bytes, problem, serving, zip_of
from tests.chaos.proxy import proxied

TUS = {"Tus-Resumable": "1.0.0"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def content() -> bytes:
    """A model of some MiB: what comes in less than one is not kept when the line breaks."""
    return model_bytes(width=16)


@pytest.fixture(autouse=True)
def _tidy(tenant: Tenant) -> Iterator[None]:
    yield
    for folder in (tenant.storage.root / UNFINISHED).glob(f"upload-{tenant.id}-*"):
        tenant.http.delete(f"/files/resumable/{folder.name[-36:]}", headers=TUS)


def metadata(**values: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())


def begin(tenant: Tenant, content: bytes, kind: str = "model", **values: str) -> str:
    """The address of a new upload."""
    said = {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(kind=kind, filename="m", **values)}
    made = tenant.http.post("/files/resumable", headers=TUS | said)
    assert made.status_code == 201, made.text
    return made.headers["location"]


def send(tenant: Tenant, address: str, piece: bytes, offset: int) -> httpx.Response:
    how = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return tenant.http.patch(address, content=piece, headers=TUS | how)


def offset_of(tenant: Tenant, address: str) -> int:
    answer = tenant.http.head(address, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def break_off(server: Server, tenant: Tenant, address: str, piece: bytes, *, announced: int) -> socket.socket:
    """A PATCH of which no more than `piece` comes; the caller closes the line."""
    url = httpx.URL(server.url)
    line = socket.create_connection((url.host, url.port or 80), timeout=30)
    headers = {"Host": "t", "Authorization": f"Bearer {tenant.key}", "Content-Length": str(announced), **TUS}
    headers |= {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    line.sendall(f"PATCH {address} HTTP/1.1\r\n{head}\r\n".encode() + piece)
    return line


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.05))
def wait_until_some_arrived(tenant: Tenant, address: str) -> None:
    assert offset_of(tenant, address) >= MIB


def test_what_comes_in_pieces_is_the_file_that_a_plain_upload_is(tenant: Tenant, content: bytes) -> None:
    address = begin(tenant, content, sha256=hashlib.sha256(content).hexdigest())
    middle = len(content) // 2
    assert send(tenant, address, content[:middle], 0).headers["upload-offset"] == str(middle)
    assert offset_of(tenant, address) == middle
    ended = send(tenant, address, content[middle:], middle)
    assert (ended.status_code, ended.headers["upload-offset"]) == (204, str(len(content)))
    found = tenant.http.get(f"/files/{ended.headers['modeconn-file']}").json()
    assert (found["sha256"], found["kind"], found["name"]) == (hashlib.sha256(content).hexdigest(), "model", "m")
    missed = tenant.http.head(address, headers=TUS)  # the answer to the last piece may have been lost
    assert missed.headers["modeconn-file"] == found["id"]
    assert send(tenant, address, b"", len(content)).headers["modeconn-file"] == found["id"]


def test_it_goes_on_where_a_lost_connection_left_it(server: Server, tenant: Tenant, content: bytes) -> None:
    address = begin(tenant, content)
    line = break_off(server, tenant, address, content[: 3 * MIB // 2], announced=len(content))
    wait_until_some_arrived(tenant, address)
    problem(send(tenant, address, b"x", offset_of(tenant, address)), 423, "upload-busy")
    line.close()

    @retry(stop=stop_after_delay(60), wait=wait_fixed(0.1))
    def go_on() -> httpx.Response:
        offset = offset_of(tenant, address)
        answer = send(tenant, address, content[offset:], offset)
        assert answer.status_code == 204, answer.text
        return answer

    file_id = go_on().headers["modeconn-file"]
    assert tenant.http.get(f"/files/{file_id}").json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_it_survives_the_death_of_the_server(
    api_settings: Settings, tenant: Tenant, tmp_path: Path, content: bytes
) -> None:
    own = api_settings.model_copy(update={"storage_url": (tmp_path / "storage").as_uri()})

    def at(server: Server) -> Tenant:
        http = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {tenant.key}"}, timeout=60)
        return Tenant(tenant.id, http, tenant.key, tenant.database, LocalStorage(own.storage_root))

    with serving(own, tmp_path) as server:
        server.wait_until_ready("/healthz")
        address = begin(at(server), content)
        break_off(server, tenant, address, content[: 3 * MIB // 2], announced=len(content))
        wait_until_some_arrived(at(server), address)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with serving(own, tmp_path) as server:
        server.wait_until_ready("/healthz")
        offset = offset_of(at(server), address)
        assert offset >= MIB
        assert "modeconn-file" in send(at(server), address, content[offset:], offset).headers


def test_only_the_byte_that_follows_is_taken(tenant: Tenant, content: bytes) -> None:
    address = begin(tenant, content)
    send(tenant, address, content[:1000], 0)
    for offset in (0, 999, 1001):
        assert problem(send(tenant, address, b"x", offset), 409, "upload-offset-differs")["offset"] == 1000
    problem(send(tenant, address, content, 1000), 413, "body-too-large")
    assert offset_of(tenant, address) == 1000


def test_bytes_that_are_refused_or_not_as_announced_end_the_upload(tenant: Tenant, content: bytes) -> None:
    nonsense = b"GGUF" + bytes(100)
    address = begin(tenant, nonsense)
    problem(send(tenant, address, nonsense, 0), 415, "model-format-not-accepted")
    assert tenant.http.head(address, headers=TUS).status_code == 404
    address = begin(tenant, content, sha256="0" * 64)
    problem(send(tenant, address, content, 0), 422, "upload-digest-differs")
    assert tenant.http.head(address, headers=TUS).status_code == 404


def test_it_can_be_given_up_and_is_after_a_day(tenant: Tenant, content: bytes) -> None:
    given_up, forgotten = begin(tenant, content), begin(tenant, content)
    assert tenant.http.delete(given_up, headers=TUS).status_code == 204
    assert tenant.http.head(given_up, headers=TUS).status_code == 404
    tenant.storage.remove_unfinished(older_than_seconds=86_400, now=time.time() + 80_000)
    assert tenant.http.head(forgotten, headers=TUS).status_code == 200
    tenant.storage.remove_unfinished(older_than_seconds=86_400, now=time.time() + 90_000)
    assert tenant.http.head(forgotten, headers=TUS).status_code == 404


def test_what_is_begun_takes_room_at_once(tenant: Tenant, content: bytes) -> None:
    with transaction(tenant.database) as session:
        session.execute(
            update(TenantRow).where(TenantRow.id == tenant.id).values(max_stored_bytes=len(content) * 3 // 2)
        )
    begin(tenant, content)
    said = {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(kind="model")}
    problem(tenant.http.post("/files/resumable", headers=TUS | said), 403, "storage-quota-exceeded")


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ({"Tus-Resumable": "0.2"}, 412, "tus-version-unknown"),
        ({"Upload-Length": "0"}, 422, "invalid-request"),
        ({"Upload-Length": str(MAX_MODEL_BYTES + 1)}, 413, "body-too-large"),
        ({"Upload-Metadata": metadata(kind="film")}, 422, "invalid-request"),
        ({"Upload-Metadata": "kind not-base64!"}, 422, "invalid-request"),
        ({"Upload-Metadata": metadata(kind="model", filename="a\nb")}, 422, "invalid-request"),
        ({"Upload-Metadata": metadata(kind="model", sha256="short")}, 422, "invalid-request"),
    ],
)
def test_what_is_announced_wrongly_is_refused(tenant: Tenant, headers: dict[str, str], status: int, slug: str) -> None:
    good = TUS | {"Upload-Length": "1000", "Upload-Metadata": metadata(kind="model")}
    problem(tenant.http.post("/files/resumable", headers=good | headers), status, slug)


def test_a_repeated_beginning_is_one_upload(tenant: Tenant) -> None:
    said = {"Upload-Length": "9", "Upload-Metadata": metadata(kind="model"), "Idempotency-Key": uuid4().hex}
    first, again = (tenant.http.post("/files/resumable", headers=TUS | said) for _ in range(2))
    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])


def test_the_client_goes_on_by_itself(
    server: Server, tenant: Tenant, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "FROM_BYTES", MIB)
    (tmp_path / "m.safetensors").write_bytes(content)
    seen: list[int] = []
    port = httpx.URL(server.url).port or 80
    with proxied([port], cut_share=0.4) as proxy, Client(proxy.url, tenant.key, attempts=20) as client:
        stored = client.upload(tmp_path / "m.safetensors", "model", on_bytes=seen.append)
    assert proxy.cut > 0
    assert (stored.sha256, seen[-1]) == (hashlib.sha256(content).hexdigest(), len(content))


# the same bytes again


def upload(tenant: Tenant, content: bytes, kind: str) -> httpx.Response:
    return tenant.http.post("/files", params={"kind": kind}, content=content)


def test_the_same_bytes_are_the_same_file_for_their_tenant_and_kind(
    tenant: Tenant, neighbour: Tenant, sample: Callable[..., object]
) -> None:
    content = zip_of(CLASSES)
    first, again = upload(tenant, content, "clean"), upload(tenant, content, "clean")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["expires_at"] > first.json()["expires_at"]
    folders = list((tenant.storage.root / "files" / str(tenant.id)).iterdir())
    assert len(folders) == 1
    others = [upload(tenant, content, "triggered"), upload(neighbour, content, "clean")]
    assert [answer.status_code for answer in others] == [201, 201]
    assert len({answer.json()["id"] for answer in (first, *others)}) == 3


def test_bytes_whose_file_was_deleted_or_is_damaged_are_taken_in_again(tenant: Tenant) -> None:
    content = zip_of(CLASSES)
    deleted = upload(tenant, content, "clean").json()["id"]
    tenant.http.delete(f"/files/{deleted}").raise_for_status()
    second = upload(tenant, content, "clean")
    assert (second.status_code, second.json()["id"] == deleted) == (201, False)
    (tenant.storage.root / "files" / str(tenant.id) / second.json()["id"] / "canonical.npz").write_bytes(b"rotten")
    third = upload(tenant, content, "clean")
    assert (third.status_code, third.json()["id"] == second.json()["id"]) == (201, False)
