"""Rows of resumable uploads: open until they have become a file or been refused, removed when their time has passed.

While one is open its whole length counts as stored, so that what was begun can be kept.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.database import flush_and_read
from store.errors import TooManyUploads
from store.quotas import NO_LIMITS, Limits, add_stored, lock_tenant
from store.tables import PartialUpload

KEPT: Final = timedelta(hours=12)  # after the last bytes; shorter than what nobody writes to lies in the storage
MOST_OPEN: Final = 100  # of one tenant
_IS_OPEN = PartialUpload.file_id.is_(None) & PartialUpload.problem.is_(None)
_MANY: Final = 500


def create(
    session: Session,
    *,
    tenant_id: UUID,
    kind: str,
    name: str | None,
    bytes: int,  # noqa: A002 - the column's name
    limits: Limits = NO_LIMITS,
) -> PartialUpload:
    """Begin an upload of so many bytes. Raises StorageQuotaExceeded, TooManyUploads."""
    add_stored(session, tenant_id=tenant_id, count=bytes, default=limits)
    open_ones = select(func.count()).select_from(PartialUpload).where(PartialUpload.tenant_id == tenant_id, _IS_OPEN)
    if (session.scalar(open_ones) or 0) >= MOST_OPEN:
        raise TooManyUploads(MOST_OPEN)
    upload = PartialUpload(tenant_id=tenant_id, kind=kind, name=name, bytes=bytes, expires_at=func.now() + KEPT)
    session.add(upload)
    flush_and_read(session, upload)
    return upload


def get(session: Session, *, tenant_id: UUID, upload_id: UUID) -> PartialUpload | None:
    """The upload, or None when it is missing or somebody else's. One that is being written to does not expire."""
    return session.scalar(
        select(PartialUpload).where(PartialUpload.id == upload_id, PartialUpload.tenant_id == tenant_id)
    )


def prolong(session: Session, upload: PartialUpload) -> None:
    """Bytes have come: from now on it is kept for another `KEPT`."""
    upload.expires_at = func.now() + KEPT
    flush_and_read(session, upload)


def end(session: Session, *, tenant_id: UUID, upload_id: UUID, problem: dict[str, Any] | None = None) -> PartialUpload:
    """Stop counting its bytes, for the file that it becomes (`name_file`, in the same transaction) or its problem.

    The caller has found it open, and holds its file.
    """
    tenant = lock_tenant(session, tenant_id)
    upload = session.get_one(PartialUpload, upload_id)
    tenant.stored_bytes -= upload.bytes
    upload.problem = problem
    upload.expires_at = func.now() + KEPT
    flush_and_read(session, upload)
    return upload


def name_file(session: Session, upload: PartialUpload, file_id: UUID) -> None:
    """What it has become."""
    upload.file_id = file_id
    flush_and_read(session, upload)


def delete(session: Session, *, tenant_id: UUID, upload_id: UUID) -> None:
    """Forget it; one that is missing is fine."""
    tenant = lock_tenant(session, tenant_id)
    upload = get(session, tenant_id=tenant_id, upload_id=upload_id)
    if upload is None:
        return
    if upload.file_id is None and upload.problem is None:
        tenant.stored_bytes -= upload.bytes
    session.delete(upload)
    session.flush()


def expired(session: Session) -> Sequence[PartialUpload]:
    """Those whose time has passed, oldest first: delete each and its bytes, unless somebody writes to it now."""
    over = select(PartialUpload).where(PartialUpload.expires_at <= func.now())
    return session.scalars(over.order_by(PartialUpload.expires_at).limit(_MANY)).all()
