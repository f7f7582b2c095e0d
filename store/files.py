"""Rows of uploaded files: one per upload, gone for its tenant when deleted or expired, its bytes purged after that."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from store.cursors import decode_cursor, encode_cursor
from store.database import flush_and_read
from store.errors import FileInUse
from store.quotas import NO_LIMITS, Limits, add_stored, lock_tenant
from store.tables import IS_ACTIVE, File, Job

BATCH = 500


def create_file(
    session: Session,
    *,
    tenant_id: UUID,
    file_id: UUID,
    kind: str,
    name: str,
    bytes: int,  # noqa: A002 - the column's name
    sha256: str,
    canonical_path: str,
    canonical_sha256: str,
    facts: dict[str, Any],
    canonical_bytes: int,
    retention: timedelta,
    limits: Limits = NO_LIMITS,
) -> File:
    """Record an upload whose canonical form is stored at `canonical_path`; `bytes` and `sha256` are the upload's.

    `limits` hold for a tenant that has none of its own. Raises StorageQuotaExceeded.
    """
    add_stored(session, tenant_id=tenant_id, count=canonical_bytes, default=limits)
    file = File(
        id=file_id,
        tenant_id=tenant_id,
        kind=kind,
        name=name,
        bytes=bytes,
        sha256=sha256,
        canonical_path=canonical_path,
        canonical_sha256=canonical_sha256,
        canonical_bytes=canonical_bytes,
        facts=facts,
        expires_at=func.now() + retention,
    )
    session.add(file)
    flush_and_read(session, file)
    return file


def _is_known(tenant_id: UUID) -> ColumnElement[bool]:
    return (File.tenant_id == tenant_id) & File.deleted_at.is_(None) & (File.expires_at > func.now())


def get_file(session: Session, *, tenant_id: UUID, file_id: UUID) -> File | None:
    """The file, or None when it is missing, deleted, expired or somebody else's."""
    return session.scalar(select(File).where(_is_known(tenant_id), File.id == file_id))


def of_job(session: Session, job: Job) -> dict[UUID, File]:
    """The job's inputs by their id, also those that are deleted: their hashes stay known."""
    used = (job.suspect_file_id, job.clean_file_id, job.triggered_file_id, job.second_file_id)
    rows = session.scalars(select(File).where(File.tenant_id == job.tenant_id, File.id.in_(used)))
    return {row.id: row for row in rows}


def list_files(
    session: Session, *, tenant_id: UUID, kind: str | None = None, limit: int, cursor: str | None = None
) -> tuple[Sequence[File], str | None]:
    """One page of the tenant's files, newest first, and the cursor of the next page (None: this was the last).

    Raises BadCursor.
    """
    query = select(File).where(_is_known(tenant_id)).order_by(File.created_at.desc(), File.id.desc()).limit(limit + 1)
    if kind is not None:
        query = query.where(File.kind == kind)
    if cursor is not None:
        query = query.where(tuple_(File.created_at, File.id) < tuple_(*decode_cursor(cursor)))
    rows = session.scalars(query).all()
    page = rows[:limit]
    return page, encode_cursor(page[-1]) if len(rows) > limit else None


def same_file(session: Session, *, tenant_id: UUID, kind: str, sha256: str) -> File | None:
    """The tenant's newest file of this kind that was made of an upload with this hash."""
    same = (File.kind == kind) & (File.sha256 == sha256)
    return session.scalars(select(File).where(_is_known(tenant_id), same).order_by(File.created_at.desc())).first()


def prolong(session: Session, *, file_id: UUID, retention: timedelta) -> File | None:
    """Keep the file for as long as a new one would be; None: its time has passed, or it was deleted."""
    still_there = (File.id == file_id) & File.deleted_at.is_(None) & (File.expires_at > func.now())
    later = update(File).where(still_there).values(expires_at=func.greatest(File.expires_at, func.now() + retention))
    return session.scalars(later.returning(File).execution_options(populate_existing=True)).one_or_none()


def delete_file(session: Session, *, tenant_id: UUID, file_id: UUID) -> bool:
    """Make the file unknown; its bytes are purged later. False: the tenant has no such file. Raises FileInUse."""
    file = session.scalar(
        select(File)
        .where(File.id == file_id, File.tenant_id == tenant_id, File.deleted_at.is_(None))
        .with_for_update(key_share=True)
    )
    if file is None:
        return False
    roles = (Job.suspect_file_id, Job.clean_file_id, Job.triggered_file_id, Job.second_file_id)
    reads_it = or_(*(column == file_id for column in roles))
    user = session.scalars(select(Job).where(Job.tenant_id == tenant_id, IS_ACTIVE, reads_it).limit(1)).first()
    if user is not None:
        raise FileInUse(file_id, user.id, user.kind)
    file.deleted_at = func.clock_timestamp()
    session.flush()
    return True


def expire(session: Session, *, limit: int = BATCH) -> Sequence[UUID]:
    """Mark files whose time has passed as deleted. None of them is in use: `create_job` prolongs a file's life."""
    over = (
        select(File.id)
        .where(File.deleted_at.is_(None), File.expires_at <= func.now())
        .order_by(File.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return session.scalars(
        update(File)
        .where(File.id.in_(over))
        .values(deleted_at=func.clock_timestamp())
        .returning(File.id)
        .execution_options(synchronize_session=False)
    ).all()


def purgeable(session: Session, *, limit: int = BATCH) -> Sequence[File]:
    """Deleted files whose bytes are still stored: delete `storage.file_folder(tenant, id)`, then `mark_purged`."""
    return session.scalars(
        select(File)
        .where(File.deleted_at.is_not(None), File.canonical_path.is_not(None))
        .order_by(File.deleted_at)
        .limit(limit)
    ).all()


def mark_purged(session: Session, *, file_id: UUID) -> None:
    """The bytes of a deleted file are gone, and its tenant has room for others."""
    stored = (File.id == file_id) & File.deleted_at.is_not(None) & File.canonical_path.is_not(None)
    tenant_id = session.scalar(select(File.tenant_id).where(stored))
    if tenant_id is None:
        return
    tenant = lock_tenant(session, tenant_id)  # before the file's row, as everywhere
    purged = update(File).where(stored).values(canonical_path=None).returning(File.canonical_bytes)
    tenant.stored_bytes -= session.scalar(purged.execution_options(synchronize_session=False)) or 0
    session.flush()
