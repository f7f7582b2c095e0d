"""Uploads: what is accepted, what is refused, and that a refusal leaves nothing behind."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from tenacity import retry, stop_after_delay, wait_fixed

from store.database import transaction
from store.storage import UNFINISHED
from store.tables import File
from tests.api.conftest import (
    CLASSES,
    MAX_DATASET_BYTES,
    MAX_MODEL_BYTES,
    Server,
    Tenant,
    model_bytes,
    problem,
    zip_of,
)
from tests.api.raw_upload import RawUpload
from tests.damage import flip_bit


def kept_files(tenant: Tenant) -> list[Path]:
    """Everything in the storage that belongs to the tenant, and what is unfinished of nobody else."""
    root = tenant.storage.root
    own = [path for path in (root / "files" / str(tenant.id)).rglob("*") if path.is_file()]
    unfinished = (
        path for path in (root / UNFINISHED).iterdir() if path.name.startswith(str(tenant.id)) or "." not in path.name
    )
    return [*own, *unfinished]


def rows(tenant: Tenant) -> int:
    with transaction(tenant.database) as session:
        return session.scalar(select(func.count()).select_from(File).where(File.tenant_id == tenant.id)) or 0


@retry(stop=stop_after_delay(20), wait=wait_fixed(0.05))
def assert_nothing_kept(tenant: Tenant) -> None:
    """The server may notice a lost client a moment later."""
    assert (kept_files(tenant), rows(tenant)) == ([], 0)


def test_an_uploaded_model_can_be_shown(tenant: Tenant) -> None:
    content = model_bytes()
    made = tenant.http.post("/files", params={"kind": "model", "name": "suspect.safetensors"}, content=content)
    assert made.status_code == 201, made.text
    body = made.json()
    assert made.headers["location"] == f"/files/{body['id']}"
    assert (body["kind"], body["name"], body["bytes"]) == ("model", "suspect.safetensors", len(content))
    assert body["sha256"] == hashlib.sha256(content).hexdigest()
    assert ["conv1.weight", "F32", [4, 3, 3, 3]] in body["facts"]["tensors"]
    assert body["created_at"] < body["expires_at"]
    assert tenant.http.get(made.headers["location"]).json() == body
    assert [path.name for path in kept_files(tenant)] == ["canonical.safetensors"]


@pytest.mark.parametrize("kind", ["clean", "triggered"])
def test_an_uploaded_image_set_tells_its_classes(tenant: Tenant, kind: str) -> None:
    made = tenant.http.post("/files", params={"kind": kind}, content=zip_of(CLASSES))
    assert made.status_code == 201, made.text
    facts = made.json()["facts"]
    assert (facts["classes"], facts["images"], facts["shape"]) == (CLASSES, 15, [3, 32, 32])


def test_a_body_of_unknown_length_is_taken_too(tenant: Tenant) -> None:
    content = model_bytes()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 10_000):
            yield content[start : start + 10_000]

    made = tenant.http.post("/files", params={"kind": "model"}, content=pieces())
    assert made.json()["sha256"] == hashlib.sha256(content).hexdigest()


def broken_zip() -> bytes:
    return zip_of(CLASSES)[:-200]


def whole_module() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Path("x")))
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "content", "status", "slug"),
    [
        ("model", b"", 422, "file-empty"),
        ("model", b"GGUF" + bytes(100), 415, "model-format-not-accepted"),
        ("model", whole_module(), 415, "model-pickle-not-accepted"),
        ("model", model_bytes()[:-5], 422, "model-file-broken"),
        ("clean", b"no archive at all" * 10, 415, "dataset-format-not-accepted"),
        ("clean", broken_zip(), 422, "dataset-archive-broken"),
        ("clean", zip_of([]), 422, "dataset-empty"),
        ("clean", zip_of(["only"]), 422, "dataset-one-class"),
        ("clean", zip_of(CLASSES, images=2), 422, "dataset-class-too-small"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refused_upload_leaves_nothing_behind(
    tenant: Tenant, kind: str, content: bytes, status: int, slug: str
) -> None:
    problem(tenant.http.post("/files", params={"kind": kind}, content=content), status, slug)
    assert_nothing_kept(tenant)


@pytest.mark.parametrize(
    "params", [{}, {"kind": "video"}, {"kind": "model", "name": ""}, {"kind": "clean", "name": "\x00"}]
)
def test_an_upload_must_say_what_it_is(tenant: Tenant, params: dict[str, str]) -> None:
    body = problem(tenant.http.post("/files", params=params, content=b"x"), 422, "invalid-request")
    assert body["errors"][0]["in"] == "query"


def test_a_body_announced_as_too_large_is_refused_unread(server: Server, tenant: Tenant) -> None:
    upload = RawUpload(server, tenant, "model", f"Content-Length: {10 << 30}")
    head, body = upload.answer()  # not one byte of the body was sent
    assert head.startswith(b"http/1.1 413")
    assert b"connection: close" in head
    assert json.loads(body)["type"] == "/problems/body-too-large"
    assert json.loads(body)["limit_bytes"] == MAX_MODEL_BYTES
    assert_nothing_kept(tenant)


def test_a_body_that_grows_too_large_is_cut_off_while_it_comes(server: Server, tenant: Tenant) -> None:
    upload = RawUpload(server, tenant, "clean", "Transfer-Encoding: chunked")
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    sent = upload.send_until_answered(piece, most=200 * MAX_DATASET_BYTES)
    assert sent < 100 * MAX_DATASET_BYTES
    assert_nothing_kept(tenant)


def test_an_ordinary_client_reads_the_413(tenant: Tenant) -> None:
    answer = tenant.http.post("/files", params={"kind": "clean"}, content=bytes(8 * MAX_DATASET_BYTES))
    problem(answer, 413, "body-too-large")
    assert answer.headers["connection"] == "close"
    assert tenant.http.get("/repair").status_code == 200  # on a new connection


def test_an_upload_without_a_key_is_refused_unread(server: Server, tenant: Tenant) -> None:
    stranger = Tenant(tenant.id, tenant.http, "mcr_unknown", tenant.database, tenant.storage)
    head, body = RawUpload(server, stranger, "model", "Content-Length: 1000000").answer()
    assert head.startswith(b"http/1.1 401")
    assert b"connection: close" in head
    assert json.loads(body)["type"] == "/problems/key-not-valid"


def test_a_client_that_leaves_leaves_nothing_behind(server: Server, tenant: Tenant) -> None:
    upload = RawUpload(server, tenant, "model", "Content-Length: 1000000")
    upload.socket.sendall(bytes(400_000))
    wait_for_scratch(tenant)
    upload.socket.close()
    assert_nothing_kept(tenant)


@retry(stop=stop_after_delay(20), wait=wait_fixed(0.05))
def wait_for_scratch(tenant: Tenant) -> None:
    assert kept_files(tenant)


def test_a_repeated_upload_with_its_key_is_the_same_file(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    content = model_bytes()
    first = tenant.http.post("/files", params={"kind": "model"}, content=content, headers=headers)
    again = tenant.http.post("/files", params={"kind": "model"}, content=content, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert rows(tenant) == 1
    assert len(kept_files(tenant)) == 1


def test_a_key_of_an_upload_is_not_good_for_another_file(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    tenant.http.post("/files", params={"kind": "model"}, content=model_bytes(), headers=headers).raise_for_status()
    other = tenant.http.post("/files", params={"kind": "model"}, content=model_bytes(), headers=headers)
    problem(other, 422, "idempotency-key-reused")
    assert rows(tenant) == 1
    assert len(kept_files(tenant)) == 1


def test_a_deleted_file_is_gone_with_its_bytes(tenant: Tenant, stock: dict[str, str]) -> None:
    before = len(kept_files(tenant))
    assert tenant.http.delete(f"/files/{stock['clean']}").status_code == 204
    problem(tenant.http.get(f"/files/{stock['clean']}"), 404, "file-not-found")
    problem(tenant.http.delete(f"/files/{stock['clean']}"), 404, "file-not-found")
    assert len(kept_files(tenant)) == before - 1


def test_a_file_that_a_job_needs_is_not_deleted(tenant: Tenant, order: dict[str, Any]) -> None:
    job = tenant.http.post("/repair", json=order).json()["id"]
    refused = problem(tenant.http.delete(f"/files/{order['clean']}"), 409, "file-in-use")
    assert refused["jobs"] == [f"/repair/{job}"]
    tenant.http.post(f"/repair/{job}/cancel").raise_for_status()
    assert tenant.http.delete(f"/files/{order['clean']}").status_code == 204


def test_two_tenants_may_hold_the_same_bytes_and_neither_learns_of_it(new_tenant: Callable[[], Tenant]) -> None:
    content = model_bytes()
    one, other = (new_tenant().http.post("/files", params={"kind": "model"}, content=content) for _ in range(2))
    assert (one.status_code, other.status_code) == (201, 201)
    assert one.json()["sha256"] == other.json()["sha256"]
    assert one.json()["id"] != other.json()["id"]


def age(tenant: Tenant, file_id: str) -> None:
    """One day of the file's time is left."""
    with transaction(tenant.database) as session:
        session.execute(update(File).where(File.id == UUID(file_id)).values(expires_at=func.now() + timedelta(days=1)))


def test_the_same_bytes_again_are_the_same_file_for_longer(tenant: Tenant) -> None:
    content = model_bytes()
    first = tenant.http.post("/files", params={"kind": "model", "name": "a"}, content=content).json()
    age(tenant, first["id"])
    shortened = tenant.http.get(f"/files/{first['id']}").json()
    used = tenant.http.get("/quota").json()["stored_bytes"]["used"]
    again = tenant.http.post("/files", params={"kind": "model", "name": "b"}, content=content)
    assert (again.status_code, again.headers["location"]) == (200, f"/files/{first['id']}")
    assert again.json()["name"] == "a"
    assert again.json()["expires_at"] > shortened["expires_at"]
    assert (rows(tenant), len(kept_files(tenant))) == (1, 1)
    assert tenant.http.get("/quota").json()["stored_bytes"]["used"] == used


def test_the_same_bytes_as_another_kind_are_another_file(tenant: Tenant) -> None:
    content = zip_of(CLASSES)
    answers = [tenant.http.post("/files", params={"kind": kind}, content=content) for kind in ("clean", "triggered")]
    assert [answer.status_code for answer in answers] == [201, 201]


def test_a_deleted_file_does_not_stand_in_for_a_new_one(tenant: Tenant) -> None:
    content = model_bytes()
    first = tenant.http.post("/files", params={"kind": "model"}, content=content)
    tenant.http.delete(first.headers["location"]).raise_for_status()
    again = tenant.http.post("/files", params={"kind": "model"}, content=content)
    assert again.status_code == 201
    assert again.json()["id"] != first.json()["id"]


def test_a_damaged_file_does_not_stand_in_for_a_new_one(tenant: Tenant) -> None:
    content = model_bytes()
    first = tenant.http.post("/files", params={"kind": "model"}, content=content).json()
    [stored] = kept_files(tenant)
    flip_bit(stored, 1000)
    again = tenant.http.post("/files", params={"kind": "model"}, content=content)
    assert again.status_code == 201
    assert again.json()["id"] != first["id"]


def test_the_same_bytes_many_times_at_once_are_one_file(tenant: Tenant) -> None:
    content = model_bytes()
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(tenant.http.post, "/files?kind=model", content=content) for _ in range(6)]
    answers = [one.result() for one in sent]
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert (rows(tenant), len(kept_files(tenant))) == (1, 1)


def test_files_are_listed_newest_first_page_by_page_until_their_time_is_over(tenant: Tenant) -> None:
    ids = [tenant.http.post("/files?kind=clean", content=zip_of(CLASSES, images=n)).json()["id"] for n in (5, 6, 7)]
    model = tenant.http.post("/files?kind=model", content=model_bytes()).json()
    page = tenant.http.get("/files", params={"kind": "clean", "limit": 2}).json()
    rest = tenant.http.get("/files", params={"kind": "clean", "limit": 2, "cursor": page["next"]}).json()
    assert [file["id"] for file in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    assert tenant.http.get("/files").json()["items"][0] == model
    tenant.http.delete(f"/files/{ids[0]}")
    with transaction(tenant.database) as session:
        session.execute(update(File).where(File.id == UUID(ids[1])).values(expires_at=func.now()))
    assert {file["id"] for file in tenant.http.get("/files").json()["items"]} == {model["id"], ids[2]}


def test_an_upload_that_the_disk_changes_is_not_taken(server: Server, tenant: Tenant) -> None:
    upload = RawUpload(server, tenant, "model", f"Content-Length: {2 << 20}")
    upload.socket.sendall(bytes(3 << 19))
    flip_bit(wait_for_bytes(tenant), 1000)
    upload.socket.sendall(bytes(1 << 19))
    head, body = upload.answer()
    assert head.startswith(b"http/1.1 500")
    assert json.loads(body)["type"] == "/problems/stored-file-damaged"
    assert_nothing_kept(tenant)


@retry(stop=stop_after_delay(20), wait=wait_fixed(0.05))
def wait_for_bytes(tenant: Tenant) -> Path:
    """The file that an upload is being written to, once something is in it."""
    [path] = (tenant.storage.root / UNFINISHED).glob("*/upload")
    assert path.stat().st_size > 0
    return path
