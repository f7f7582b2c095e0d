"""Resumable uploads: what came stays, whatever breaks; what is whole becomes a file like any other."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, text
from tenacity import retry, stop_after_delay, wait_fixed

from store.database import transaction
from store.partial_uploads import MOST_OPEN
from store.settings import Settings
from store.storage import UNFINISHED, LocalStorage
from store.tables import File
from tests.api.conftest import CLASSES, MAX_MODEL_BYTES, Server, Tenant, model_bytes, problem, serving, zip_of
from tests.api.raw_upload import RawUpload
from tests.api.tus import TUS, ask, begin, send
from tests.small_disk import fill, small_disk


def begun(tenant: Tenant, length: int, **told: str) -> str:
    """Address of an upload that has been begun."""
    return str(begin(tenant.http, length, **told).raise_for_status().headers["Location"])


def offset(tenant: Tenant, address: str) -> int:
    return int(ask(tenant.http, address).raise_for_status().headers["Upload-Offset"])


def stored_bytes(tenant: Tenant) -> float:
    used: float = tenant.http.get("/quota").json()["stored_bytes"]["used"]
    return used


def left_of(tenant: Tenant) -> list[Path]:
    return list((tenant.storage.root / UNFINISHED).glob(f"{tenant.id}.*"))


def test_an_upload_in_parts_becomes_the_file_that_one_in_one_piece_becomes(tenant: Tenant) -> None:
    content = model_bytes()
    address = begun(tenant, len(content), filename="suspect.safetensors")
    assert send(tenant.http, address, 0, content[:50_000]).headers["Upload-Offset"] == "50000"
    assert send(tenant.http, address, 50_000, content[50_000:50_001]).status_code == 204
    assert "content-location" not in ask(tenant.http, address).headers
    done = send(tenant.http, address, 50_001, content[50_001:])
    assert (done.status_code, done.headers["Upload-Offset"]) == (204, str(len(content))), done.text
    file = tenant.http.get(done.headers["Content-Location"]).json()
    assert (file["name"], file["kind"], file["bytes"]) == ("suspect.safetensors", "model", len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert ["conv1.weight", "F32", [4, 3, 3, 3]] in file["facts"]["tensors"]
    assert left_of(tenant) == []


def test_who_missed_the_last_answer_gets_it_again(tenant: Tenant) -> None:
    content = zip_of(CLASSES)
    address = begun(tenant, len(content), kind="clean")
    done = send(tenant.http, address, 0, content)
    head = ask(tenant.http, address)
    assert head.headers["Upload-Offset"] == head.headers["Upload-Length"] == str(len(content))
    again = send(tenant.http, address, len(content), b"")
    assert done.status_code == again.status_code == 204
    assert len({answer.headers["Content-Location"] for answer in (done, head, again)}) == 1


def test_what_is_wrong_with_the_file_is_said_with_its_last_byte_and_again(tenant: Tenant) -> None:
    content = b"GGUF" + bytes(100)
    address = begun(tenant, len(content))
    for start in (0, len(content)):
        problem(send(tenant.http, address, start, content[start:]), 415, "model-format-not-accepted")
    assert stored_bytes(tenant) == 0
    assert left_of(tenant) == []


def test_bytes_must_begin_where_the_upload_ends(tenant: Tenant) -> None:
    address = begun(tenant, 100)
    send(tenant.http, address, 0, b"x" * 10)
    for wrong in (0, 9, 11):
        body = problem(send(tenant.http, address, wrong, b"y"), 409, "upload-offset-differs")
        assert body["offset"] == 10
    assert offset(tenant, address) == 10


def test_no_more_comes_than_was_said(tenant: Tenant) -> None:
    address = begun(tenant, 100)
    problem(send(tenant.http, address, 0, b"x" * 101), 413, "body-too-large")
    assert offset(tenant, address) == 0


@pytest.mark.parametrize(
    ("length", "told", "status", "slug"),
    [
        (MAX_MODEL_BYTES + 1, {}, 413, "body-too-large"),
        (0, {}, 422, "invalid-request"),
        (5, {"kind": "video"}, 422, "invalid-request"),
        (5, {"filename": "\x00"}, 422, "invalid-request"),
    ],
)
def test_what_could_never_become_a_file_is_not_begun(
    tenant: Tenant, length: int, told: dict[str, str], status: int, slug: str
) -> None:
    problem(begin(tenant.http, length, **told), status, slug)
    assert stored_bytes(tenant) == 0


def test_the_protocol_is_spoken_in_every_answer(tenant: Tenant) -> None:
    known = tenant.http.options("/files/resumable")
    assert (known.headers["Tus-Version"], known.headers["Tus-Extension"]) == (
        "1.0.0",
        "creation,expiration,termination",
    )
    assert known.headers["Tus-Max-Size"] == str(MAX_MODEL_BYTES)
    address = begun(tenant, 5)
    answers = [
        known,
        ask(tenant.http, address),
        send(tenant.http, address, 0, b"x"),
        send(tenant.http, address, 3, b""),
    ]
    assert {answer.headers["Tus-Resumable"] for answer in answers} == {"1.0.0"}
    assert "no-store" in answers[1].headers["Cache-Control"]
    assert answers[1].headers["Upload-Expires"].endswith(" GMT")
    other = begin(tenant.http, 5, headers={"Tus-Resumable": "0.2.2"})
    problem(other, 412, "tus-version-not-supported")
    assert other.headers["Tus-Version"] == "1.0.0"
    wrong = send(tenant.http, address, 1, b"x", **{"Content-Type": "application/octet-stream"})
    problem(wrong, 415, "upload-content-type")


def test_the_whole_length_is_reserved_until_the_upload_ends(tenant: Tenant) -> None:
    with transaction(tenant.database) as session:
        session.execute(text("UPDATE tenants SET max_stored_bytes = 1000 WHERE id = :id"), {"id": tenant.id})
    address = begun(tenant, 600)
    assert stored_bytes(tenant) == 600
    problem(begin(tenant.http, 401), 403, "storage-quota-exceeded")
    assert tenant.http.delete(address, headers=TUS).status_code == 204
    assert stored_bytes(tenant) == 0
    assert ask(tenant.http, address).status_code == 404
    assert begin(tenant.http, 401).status_code == 201


def test_a_whole_upload_counts_as_the_file_that_it_has_become(tenant: Tenant) -> None:
    content = model_bytes()
    send(tenant.http, begun(tenant, len(content)), 0, content).raise_for_status()
    with transaction(tenant.database) as session:
        [kept] = session.scalars(select(File.canonical_bytes).where(File.tenant_id == tenant.id))
    assert stored_bytes(tenant) == kept


def test_no_more_uploads_are_open_than_a_tenant_may_have(tenant: Tenant) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: begin(tenant.http, 5).status_code, range(MOST_OPEN + 10)))
    assert sorted(answers) == [201] * MOST_OPEN + [429] * 10


class RawPart(RawUpload):
    """A connection on which the head of a PATCH has been sent."""

    def __init__(self, server: Server, tenant: Tenant, address: str, length: int, start: int = 0) -> None:
        lines = ("Tus-Resumable: 1.0.0", f"Upload-Offset: {start}", "Content-Type: application/offset+octet-stream")
        self.line = f"PATCH {address} HTTP/1.1"
        super().__init__(server, tenant, "", "\r\n".join((*lines, f"Content-Length: {length}")))

    def request_line(self, kind: str) -> str:
        return self.line


@retry(stop=stop_after_delay(30), wait=wait_fixed(0.05))
def wait_for_offset(tenant: Tenant, address: str, wanted: int) -> None:
    assert offset(tenant, address) == wanted


def test_what_came_before_a_connection_broke_is_kept(server: Server, tenant: Tenant) -> None:
    content = model_bytes()
    address = begun(tenant, len(content))
    part = RawPart(server, tenant, address, len(content))
    part.socket.sendall(content[:70_001])
    wait_for_offset(tenant, address, 70_001)
    part.socket.close()
    assert send_when_free(tenant, address, 70_001, content[70_001:]).status_code == 204


@retry(stop=stop_after_delay(30), wait=wait_fixed(0.05))
def send_when_free(tenant: Tenant, address: str, start: int, content: bytes) -> httpx.Response:
    """The server may notice a lost client a moment later."""
    answer = send(tenant.http, address, start, content)
    assert answer.status_code != 423
    return answer


def test_one_connection_at_a_time_writes(server: Server, tenant: Tenant) -> None:
    address = begun(tenant, 1000)
    part = RawPart(server, tenant, address, 1000)
    part.socket.sendall(b"x" * 10)
    wait_for_offset(tenant, address, 10)
    problem(send(tenant.http, address, 10, b"y"), 423, "upload-in-use")
    problem(tenant.http.delete(address, headers=TUS), 423, "upload-in-use")
    part.socket.close()
    assert send_when_free(tenant, address, 10, b"y").headers["Upload-Offset"] == "11"


def test_an_api_that_is_killed_in_the_middle_goes_on_where_it_was(
    api_settings: Settings, tmp_path: Path, new_tenant: Callable[[], Tenant]
) -> None:
    own = api_settings.model_copy(update={"storage_url": (tmp_path / "storage").as_uri()})
    tenant, content = new_tenant(), model_bytes()
    with serving(own, tmp_path) as server:
        server.wait_until_ready("/healthz")
        with client_of(server, tenant) as tenant.http:
            address = begun(tenant, len(content))
            part = RawPart(server, tenant, address, len(content))
            part.socket.sendall(content[:100_000])
            wait_for_offset(tenant, address, 100_000)
            server.process.kill()
            server.process.wait()
    with serving(own, tmp_path) as server:
        server.wait_until_ready("/healthz")
        with client_of(server, tenant) as tenant.http:
            start = offset(tenant, address)
            assert start == 100_000
            done = send(tenant.http, address, start, content[start:])
            file = tenant.http.get(done.headers["Content-Location"]).json()
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    LocalStorage(own.storage_root).verify(*canonical(tenant))


def client_of(server: Server, tenant: Tenant) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {tenant.key}"}, timeout=60)


def canonical(tenant: Tenant) -> tuple[str, str]:
    with transaction(tenant.database) as session:
        [row] = session.scalars(select(File).where(File.tenant_id == tenant.id))
        return str(row.canonical_path), row.canonical_sha256


def test_a_full_disk_keeps_what_came_and_goes_on_when_there_is_room(
    api_settings: Settings, tmp_path: Path, new_tenant: Callable[[], Tenant]
) -> None:
    tenant, content = new_tenant(), model_bytes(width=8)
    with small_disk(tmp_path / "storage", 8 << 20) as disk:
        own = api_settings.model_copy(update={"storage_url": disk.as_uri()})
        with serving(own, tmp_path) as server, client_of(server, tenant) as tenant.http:
            server.wait_until_ready("/healthz")
            address = begun(tenant, len(content))
            filler = fill(disk, leave=len(content) // 2)
            problem(send(tenant.http, address, 0, content), 507, "storage-full")
            start = offset(tenant, address)
            assert 0 < start < len(content)
            filler.unlink()
            assert send(tenant.http, address, start, content[start:]).status_code == 204


def test_many_writers_of_one_upload_make_one_file(tenant: Tenant) -> None:
    content = model_bytes()
    address = begun(tenant, len(content))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(tenant.http, address, 0, content).status_code, range(8)))
    assert answers.count(204) == 1, answers
    assert set(answers) <= {204, 409, 423}
    with transaction(tenant.database) as session:
        assert session.scalar(select(func.count()).select_from(File).where(File.tenant_id == tenant.id)) == 1
