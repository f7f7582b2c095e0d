"""Takes uploads in, lists them, shows them, deletes them."""

import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import anyio.to_thread
from fastapi.concurrency import contextmanager_in_threadpool
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError
from api.files.accept import Record, Upload, accept, limit_bytes, room_or_507
from api.files.receive import receive
from api.files.schemas import File, FileKind, FilePage
from api.idempotency import Answer, Post, once, stored_answer
from api.logs import log
from store import files, quotas, tables
from store.database import tenant_transaction
from store.storage import file_folder


async def upload(
    request: Request, parts: Parts, caller: Caller, *, kind: FileKind, name: str | None, key: str | None
) -> Answer:
    """Receive the body, convert it in a child process, record the file: 201, or 200 where the tenant had it already.

    Whatever goes wrong on the way (a refusal, the client leaving, a crash here), no file and no row stay.
    Raises ApiError and intake's IntakeRefused.
    """
    most = limit_bytes(parts.settings, kind)
    with room_or_507():
        async with contextmanager_in_threadpool(parts.storage.scratch()) as folder:
            received = await _keep(request, folder / "upload", most, parts)
            own_name = name or default_name(kind, received.sha256)
            body = {"kind": kind, "name": own_name, "sha256": received.sha256}
            post = Post(caller.tenant_id, key, "POST /files", body)
            if answer := await run_in_threadpool(stored_answer, parts.factory, post):
                return answer
            work = partial(_accept, parts, post, received, kind=kind, name=own_name)
            return await anyio.to_thread.run_sync(work, limiter=parts.intake_slots)


@dataclass(frozen=True, slots=True)
class Received:
    """An upload on disk; `sha256` is lower-case hex."""

    path: Path
    bytes: int
    sha256: str


async def _keep(request: Request, path: Path, limit_bytes: int, parts: Parts) -> Received:
    """The request's body as a new file, hashed on the way. Raises as `receive` does."""
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            file.write(chunk)

        size = await receive(request, take, limit_bytes=limit_bytes, parts=parts)
    return Received(path, size, digest.hexdigest())


def _accept(parts: Parts, post: Post, received: Received, *, kind: FileKind, name: str) -> Answer:
    _read_back(received)
    _require_room(parts, post.tenant_id)
    tenant_id, path, size, sha256 = post.tenant_id, received.path, received.bytes, received.sha256
    whole = Upload(tenant_id=tenant_id, kind=kind, name=name, path=path, bytes=size, sha256=sha256)

    def commit(record: Record) -> Answer:
        def work(session: Session) -> Answer:
            kept = record(session)
            body = present(kept.file).model_dump(mode="json")
            return Answer(201 if kept.is_new else 200, body, {"Location": address(kept.file.id)})

        return once(parts.factory, post, work)

    return accept(parts, whole, commit)


def _require_room(parts: Parts, tenant_id: UUID) -> None:
    """Before anything is converted. Raises store.errors.StorageQuotaExceeded."""
    with tenant_transaction(parts.factory, tenant_id) as session:
        quotas.require_stored(session, tenant_id=tenant_id, default=quotas.Limits.default(parts.settings))


def _read_back(received: Received) -> None:
    """Raises ApiError `stored-file-damaged` where the disk does not give back what came."""
    with received.path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != received.sha256:
        log("upload damaged on the disk", level=logging.ERROR, came=received.sha256, found=found)
        raise ApiError("stored-file-damaged", "The upload was damaged on its way to the disk; nothing was kept.")


def page(parts: Parts, caller: Caller, *, kind: FileKind | None, limit: int, cursor: str | None) -> FilePage:
    """One page of the caller's files, newest first. Raises store.errors.BadCursor."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        rows, following = files.list_files(session, tenant_id=caller.tenant_id, kind=kind, limit=limit, cursor=cursor)
        return FilePage(items=[present(row) for row in rows], next=following)


def show(parts: Parts, caller: Caller, file_id: str) -> File:
    """One file of the caller. Raises ApiError `file-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        return present(find(session, caller, file_id))


def delete(parts: Parts, caller: Caller, file_id: str) -> None:
    """Delete a file of the caller. Raises ApiError `file-not-found`, store.errors.FileInUse."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        row = find(session, caller, file_id)
        files.delete_file(session, tenant_id=caller.tenant_id, file_id=row.id)
    parts.storage.delete_tree(file_folder(row.tenant_id, row.id))
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        files.mark_purged(session, file_id=row.id)


def find(session: Session, caller: Caller, file_id: str) -> tables.File:
    """The row of a file of the caller. Raises ApiError `file-not-found`."""
    parsed: UUID = parse_id(file_id, "file-not-found", "file")
    row = files.get_file(session, tenant_id=caller.tenant_id, file_id=parsed)
    if row is None:
        raise missing("file-not-found", "file", file_id)
    return row


def present(row: tables.File) -> File:
    """The body that stands for a row."""
    return File.model_validate(row, from_attributes=True)


def address(file_id: UUID) -> str:
    """Where a file is shown."""
    return f"/files/{file_id}"


def default_name(kind: FileKind, sha256: str) -> str:
    """What an upload is called that came without a name."""
    return f"{kind}-{sha256[:8]}"
