"""Makes a file of an upload that is whole, however it came: converted in a child process, kept once, recorded."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from api.dependencies import Parts
from api.errors import ApiError
from api.files.schemas import FileKind
from intake.launcher import IntakeFailed, convert_dataset, convert_model
from intake.limits import Limits
from store import files, quotas, tables
from store.database import tenant_transaction
from store.errors import StorageCorrupt, StorageMissing
from store.settings import Settings
from store.storage import canonical_name, file_folder

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload on disk; `sha256` is lower-case hex."""

    tenant_id: UUID
    kind: FileKind
    name: str
    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The file that an upload has become, or that the tenant had already."""

    file: tables.File
    is_new: bool


A = TypeVar("A")
Record = Callable[[Session], Kept]


class _Gone(Exception):
    """The file that the tenant had already has ended meanwhile."""


def accept(parts: Parts, upload: Upload, commit: Callable[[Record], A]) -> A:
    """Convert the upload, keep the canonical form, and run `commit` with what records it in a transaction.

    Where the tenant has the same bytes of the same kind already, that file lives on instead: nothing is converted or
    stored. Whatever goes wrong, and where `commit` does not record, nothing is kept. Raises intake's IntakeRefused and
    IntakeFailed, store.errors.StorageQuotaExceeded, and what `commit` raises.
    """
    known = _same_file(parts, upload)
    if known is not None and _is_intact(parts, known):
        with suppress(_Gone):
            return commit(lambda session: _live_on(parts, session, known.id))
    return _convert_and_keep(parts, upload, commit, is_first=known is None)


def _same_file(parts: Parts, upload: Upload) -> tables.File | None:
    with tenant_transaction(parts.factory, upload.tenant_id) as session:
        return files.same_file(session, tenant_id=upload.tenant_id, kind=upload.kind, sha256=upload.sha256)


def _is_intact(parts: Parts, file: tables.File) -> bool:
    """Who is told to upload a file again because the stored one is damaged must not be given that one."""
    try:
        parts.storage.verify(str(file.canonical_path), file.canonical_sha256)
    except (StorageMissing, StorageCorrupt):
        return False
    return True


def _live_on(parts: Parts, session: Session, file_id: UUID) -> Kept:
    file = files.prolong(session, file_id=file_id, retention=_retention(parts.settings))
    if file is None:
        raise _Gone
    return Kept(file, is_new=False)


def _convert_and_keep(parts: Parts, upload: Upload, commit: Callable[[Record], A], *, is_first: bool) -> A:
    file_id, suffix = uuid4(), ".safetensors" if upload.kind == "model" else ".npz"
    default, kept = quotas.Limits.default(parts.settings), False
    with parts.storage.scratch() as folder:
        converted = folder / f"canonical{suffix}"
        facts = _convert(upload, converted, intake_limits(parts.settings))
        stored = parts.storage.adopt(converted, canonical_name(upload.tenant_id, file_id, suffix))

    def record(session: Session) -> Kept:
        nonlocal kept
        quotas.lock_tenant(session, upload.tenant_id)
        twin = files.same_file(session, tenant_id=upload.tenant_id, kind=upload.kind, sha256=upload.sha256)
        if is_first and twin is not None:  # sent twice at the same time
            return _live_on(parts, session, twin.id)
        row = files.create_file(
            session,
            tenant_id=upload.tenant_id,
            file_id=file_id,
            kind=upload.kind,
            sha256=upload.sha256,
            name=upload.name,
            bytes=upload.bytes,
            canonical_path=stored.name,
            canonical_sha256=stored.sha256,
            canonical_bytes=stored.bytes,
            facts=facts,
            retention=_retention(parts.settings),
            limits=default,
        )
        kept = True
        return Kept(row, is_new=True)

    committed = False
    try:
        answer = commit(record)
        committed = True
        return answer
    finally:
        if not (committed and kept):
            parts.storage.delete_tree(file_folder(upload.tenant_id, file_id))


def _convert(upload: Upload, target: Path, limits: Limits) -> dict[str, Any]:
    if upload.kind == "model":
        return dict(convert_model(upload.path, target, limits))
    return dict(convert_dataset(upload.path, target, limits, kind=upload.kind))


def _retention(settings: Settings) -> timedelta:
    return timedelta(days=settings.retention_days)


def limit_bytes(settings: Settings, kind: FileKind) -> int:
    """The most bytes that an upload of this kind may have."""
    return settings.max_model_bytes if kind == "model" else settings.max_dataset_bytes


def intake_limits(settings: Settings) -> Limits:
    """What the intake may accept under these settings."""
    return Limits(max_model_bytes=settings.max_model_bytes, max_dataset_bytes=settings.max_dataset_bytes)


@contextmanager
def room_or_507() -> Iterator[None]:
    """A full disk is a problem of its own, not an internal error."""
    try:
        yield
    except (OSError, IntakeFailed) as error:
        cause = error.__cause__ if isinstance(error, IntakeFailed) else error
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise ApiError("storage-full", "There is no room for the file.") from error
        raise
