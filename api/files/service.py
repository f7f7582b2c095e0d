"""Takes uploads in, shows them, deletes them."""

import errno
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import anyio.to_thread
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError
from api.files.receive import Received, receive
from api.files.schemas import File, FileKind
from api.idempotency import Answer, Post, once, stored_answer
from api.logs import log
from intake.launcher import IntakeFailed, convert_dataset, convert_model
from intake.limits import Limits
from store import files, quotas, tables
from store.database import tenant_transaction
from store.settings import Settings
from store.storage import canonical_name, file_folder

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


async def upload(
    request: Request, parts: Parts, caller: Caller, *, kind: FileKind, name: str | None, key: str | None
) -> Answer:
    """Receive the body, convert it in a child process, record the file.

    Whatever goes wrong on the way (a refusal, the client leaving, a crash here), no file and no row stay.
    Raises ApiError and intake's IntakeRefused.
    """
    settings = parts.settings
    limit_bytes = settings.max_model_bytes if kind == "model" else settings.max_dataset_bytes
    with _room_or_507(), parts.storage.scratch() as folder:
        received = await receive(request, folder / "upload", limit_bytes)
        shown_name = name or f"{kind}-{received.sha256[:8]}"
        body = {"kind": kind, "name": shown_name, "sha256": received.sha256}
        post = Post(caller.tenant_id, key, "POST /files", body)
        if answer := await run_in_threadpool(stored_answer, parts.factory, post):
            return answer
        await run_in_threadpool(_require_room, parts, caller)

        def accept() -> Answer:
            return _accept(parts, post, received, folder, kind=kind, name=shown_name)

        answer = await anyio.to_thread.run_sync(accept, limiter=parts.intake_slots)
    parts.metrics.upload_bytes.labels(kind).inc(received.bytes)
    return answer


def _require_room(parts: Parts, caller: Caller) -> None:
    """Before anything is converted. Raises store.errors.StorageQuotaExceeded."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        quotas.require_stored(session, tenant_id=caller.tenant_id, default=quotas.Limits.default(parts.settings))


def _accept(parts: Parts, post: Post, received: Received, folder: Path, *, kind: FileKind, name: str) -> Answer:
    """Convert, keep the canonical form, record it; the raw upload goes with its scratch folder."""
    _read_back(received)
    limits = intake_limits(parts.settings)
    file_id = uuid4()
    suffix = ".safetensors" if kind == "model" else ".npz"
    converted = folder / f"canonical{suffix}"
    if kind == "model":
        facts = dict(convert_model(received.path, converted, limits))
    else:
        facts = dict(convert_dataset(received.path, converted, limits, kind=kind))

    def record(session: Session) -> Answer:
        row = files.create_file(
            session,
            tenant_id=post.tenant_id,
            file_id=file_id,
            kind=kind,
            name=name,
            bytes=received.bytes,
            sha256=received.sha256,
            canonical_path=stored.name,
            canonical_sha256=stored.sha256,
            canonical_bytes=stored.bytes,
            facts=facts,
            retention=timedelta(days=parts.settings.retention_days),
            limits=quotas.Limits.default(parts.settings),
        )
        return Answer(201, present(row).model_dump(mode="json"), {"Location": f"/files/{row.id}"})

    stored = parts.storage.adopt(converted, canonical_name(post.tenant_id, file_id, suffix))
    kept = False
    try:
        answer = once(parts.factory, post, record)
        kept = answer.fresh
        return answer
    finally:
        if not kept:
            parts.storage.delete_tree(file_folder(post.tenant_id, file_id))


def _read_back(received: Received) -> None:
    """Raises ApiError `stored-file-damaged` where the disk does not give back what came."""
    with received.path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != received.sha256:
        log("upload damaged on the disk", level=logging.ERROR, came=received.sha256, found=found)
        raise ApiError("stored-file-damaged", "The upload was damaged on its way to the disk; nothing was kept.")


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


def intake_limits(settings: Settings) -> Limits:
    """What the intake may accept under these settings."""
    return Limits(max_model_bytes=settings.max_model_bytes, max_dataset_bytes=settings.max_dataset_bytes)


@contextmanager
def _room_or_507() -> Iterator[None]:
    """A full disk is a problem of its own, not an internal error."""
    try:
        yield
    except (OSError, IntakeFailed) as error:
        cause = error.__cause__ if isinstance(error, IntakeFailed) else error
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise ApiError("storage-full", "There is no room for the file; nothing was kept.") from error
        raise
