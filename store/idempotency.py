"""Idempotency-Key: a repeated POST gets the stored answer of the first one.

`begin`, the work and `complete` belong in one transaction, so key and work exist together or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from store.database import try_lock
from store.errors import IdempotencyConflict, IdempotencyMismatch
from store.tables import IdempotencyKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Fresh:
    """Nobody has used this key: do the work, then `complete`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The answer that the first request got."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any] | None


def begin(session: Session, *, tenant_id: UUID, key: str, method_path: str, body_sha256: str) -> Fresh | Replay:
    """Look the key up, and keep others from using it until this transaction ends.

    Raises IdempotencyConflict when another request with the key is being answered right now;
    IdempotencyMismatch when the key belongs to another request.
    """
    if not try_lock(session, f"idempotency {tenant_id} {key}"):
        raise IdempotencyConflict("a request with this Idempotency-Key is still being answered")
    stored = session.scalar(
        select(IdempotencyKey).where(IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
    )
    if stored is None:
        return Fresh()
    if (stored.method_path, stored.body_sha256) != (method_path, body_sha256):
        raise IdempotencyMismatch("this Idempotency-Key was used for another request")
    return Replay(status=stored.status, headers=stored.headers, body=stored.body)


def complete(
    session: Session,
    *,
    tenant_id: UUID,
    key: str,
    method_path: str,
    body_sha256: str,
    status: int,
    headers: Mapping[str, str],
    body: dict[str, Any] | None,
) -> None:
    """Store the answer, to be committed with the work. Expects `begin` in the same transaction."""
    session.add(
        IdempotencyKey(
            tenant_id=tenant_id,
            key=key,
            method_path=method_path,
            body_sha256=body_sha256,
            status=status,
            headers=dict(headers),
            body=body,
        )
    )
    session.flush()


def purge(session: Session, *, older_than: timedelta) -> None:
    """Forget answers that nobody will ask for again."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - older_than))
