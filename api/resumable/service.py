"""Takes uploads in piece by piece, over many connections and restarts, and makes files of those that are whole."""

import hashlib
from datetime import UTC
from email.utils import format_datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import cast
from uuid import UUID

import anyio.to_thread
from fastapi.concurrency import contextmanager_in_threadpool
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError, problem_body
from api.files.accept import Record, Upload, accept, limit_bytes, room_or_507
from api.files.receive import receive
from api.files.schemas import FileKind
from api.files.service import address as file_address
from api.files.service import default_name
from api.idempotency import Answer, Post, once
from api.mapper import refusal
from api.resumable.schemas import CONTENT_TYPE, TUS_EXTENSIONS, TUS_VERSION, ResumableUpload, read_metadata
from intake.launcher import IntakeRefused
from store import partial_uploads, quotas
from store.database import tenant_transaction
from store.partial_files import append as append_to
from store.partial_files import durable_size, held, partial_path
from store.tables import PartialUpload


def options(parts: Parts) -> Response:
    """What the service can do, in headers."""
    most = max(parts.settings.max_model_bytes, parts.settings.max_dataset_bytes)
    told = {"Tus-Version": TUS_VERSION, "Tus-Extension": TUS_EXTENSIONS, "Tus-Max-Size": str(most)}
    return Response(status_code=204, headers=told)


def create(parts: Parts, caller: Caller, *, length: int, metadata: str, key: str | None) -> Answer:
    """Begin an upload. Raises ApiError `body-too-large`, store.errors.StorageQuotaExceeded and TooManyUploads."""
    told = read_metadata(metadata)
    most = limit_bytes(parts.settings, told.kind)
    if length > most:
        raise ApiError("body-too-large", f"No more than {most} bytes are taken of this kind.", limit_bytes=most)

    def work(session: Session) -> Answer:
        row = partial_uploads.create(
            session,
            tenant_id=caller.tenant_id,
            kind=told.kind,
            name=told.filename,
            bytes=length,
            limits=quotas.Limits.default(parts.settings),
        )
        body = ResumableUpload.model_validate(row, from_attributes=True).model_dump(mode="json")
        return Answer(201, body, {"Location": f"/files/resumable/{row.id}", **_until(row)})

    body = {"length": length, **told.model_dump()}
    return once(parts.factory, Post(caller.tenant_id, key, "POST /files/resumable", body), work)


def show(parts: Parts, caller: Caller, upload_id: str) -> Response:
    """How far it is. Raises ApiError `upload-not-found`."""
    row = _find(parts, caller, upload_id)
    size = row.bytes if _has_ended(row) else durable_size(_path(parts, row))
    return Response(status_code=200, headers={"Upload-Length": str(row.bytes), **_standing(row, size)})


async def append(
    request: Request, parts: Parts, caller: Caller, upload_id: str, *, offset: int, content_type: str
) -> Response:
    """Add the body's bytes at `offset`; with the last one the upload becomes a file.

    Raises ApiError, store.errors.PartialBusy, and what accepting a file raises.
    """
    if content_type != CONTENT_TYPE:
        raise ApiError("upload-content-type", f"`Content-Type` must be `{CONTENT_TYPE}`.")
    row = await run_in_threadpool(_find, parts, caller, upload_id)
    if _has_ended(row):
        return _outcome(row, offset)
    path = _path(parts, row)
    with room_or_507():
        async with contextmanager_in_threadpool(held(path)) as file:
            row = await run_in_threadpool(_find_held, parts, caller, upload_id, path)
            if _has_ended(row):
                return _outcome(row, offset)
            size = await _add(request, parts, row, file, offset)
            if size < row.bytes:
                return Response(status_code=204, headers=_standing(row, size))
            return await anyio.to_thread.run_sync(partial(_finish, parts, row, path), limiter=parts.intake_slots)


async def _add(request: Request, parts: Parts, row: PartialUpload, file: FileIO, offset: int) -> int:
    """The size of the file when all of the body is on the disk for good; what came of a body that broke off stays."""
    size = file.seek(0, 2)
    _require_offset(size, offset)
    path = _path(parts, row)
    try:
        await receive(request, partial(append_to, file), limit_bytes=row.bytes - size, parts=parts)
    finally:
        size = await anyio.to_thread.run_sync(durable_size, path, limiter=parts.writers)
        await run_in_threadpool(_prolong, parts, row)
    return size


def _finish(parts: Parts, row: PartialUpload, path: Path) -> Response:
    """All bytes are there: make a file of them, or note for good why not. Otherwise (no room) all stays as it is."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    kind, tenant_id = cast(FileKind, row.kind), row.tenant_id
    name = row.name or default_name(kind, sha256)
    upload = Upload(tenant_id=tenant_id, kind=kind, name=name, path=path, bytes=row.bytes, sha256=sha256)

    def commit(record: Record) -> PartialUpload:
        with tenant_transaction(parts.factory, tenant_id) as session:
            ended = partial_uploads.end(session, tenant_id=tenant_id, upload_id=row.id)
            partial_uploads.name_file(session, ended, record(session).file.id)
            return ended

    try:
        ended = accept(parts, upload, commit)
    except IntakeRefused as error:
        problem = problem_body(error.problem_type, error.title, error.status, error.detail, **error.extra)
        with tenant_transaction(parts.factory, tenant_id) as session:
            ended = partial_uploads.end(session, tenant_id=tenant_id, upload_id=row.id, problem=problem)
    path.unlink(missing_ok=True)
    return _outcome(ended, ended.bytes)


def delete(parts: Parts, caller: Caller, upload_id: str) -> None:
    """Give it up. Raises ApiError `upload-not-found`, store.errors.PartialBusy."""
    row = _find(parts, caller, upload_id)
    path = _path(parts, row)
    with held(path):
        with tenant_transaction(parts.factory, caller.tenant_id) as session:
            partial_uploads.delete(session, tenant_id=caller.tenant_id, upload_id=row.id)
        path.unlink()


def _find(parts: Parts, caller: Caller, upload_id: str) -> PartialUpload:
    parsed: UUID = parse_id(upload_id, "upload-not-found", "upload")
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        row = partial_uploads.get(session, tenant_id=caller.tenant_id, upload_id=parsed)
    if row is None:
        raise missing("upload-not-found", "upload", upload_id)
    return row


def _find_held(parts: Parts, caller: Caller, upload_id: str, path: Path) -> PartialUpload:
    """The row as it is now that nobody else writes; its last writer may have ended it, and the file is then none."""
    try:
        row = _find(parts, caller, upload_id)
    except ApiError:
        path.unlink(missing_ok=True)
        raise
    if _has_ended(row):
        path.unlink(missing_ok=True)
    return row


def _prolong(parts: Parts, row: PartialUpload) -> None:
    with tenant_transaction(parts.factory, row.tenant_id) as session:
        session.add(row)
        partial_uploads.prolong(session, row)


def _path(parts: Parts, row: PartialUpload) -> Path:
    return partial_path(parts.storage, row.tenant_id, row.id)


def _has_ended(row: PartialUpload) -> bool:
    return row.file_id is not None or row.problem is not None


def _require_offset(size: int, offset: int) -> None:
    if offset != size:
        detail = f"{size} bytes have come so far; `Upload-Offset` is {offset}."
        raise ApiError("upload-offset-differs", detail, headers={"Upload-Offset": str(size)}, offset=size)


def _outcome(row: PartialUpload, offset: int) -> Response:
    """What became of an upload that has ended."""
    _require_offset(row.bytes, offset)
    if row.problem is not None:
        return refusal(row.problem, _standing(row, row.bytes))
    return Response(status_code=204, headers=_standing(row, row.bytes))


def _standing(row: PartialUpload, size: int) -> dict[str, str]:
    is_file = {"Content-Location": file_address(row.file_id)} if row.file_id else {}
    return {"Upload-Offset": str(size), **_until(row), **is_file}


def _until(row: PartialUpload) -> dict[str, str]:
    return {"Upload-Expires": format_datetime(row.expires_at.astimezone(UTC), usegmt=True)}
