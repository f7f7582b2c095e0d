"""Makes, lists, rotates and revokes the keys of the caller's tenant."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts, missing
from api.errors import ApiError
from api.idempotency import Answer, Post, once
from api.keys.schemas import Key, KeyRequest, Keys, NewKey, RotationRequest
from store import keys
from store.database import tenant_transaction
from store.tables import ApiKey


def create(parts: Parts, caller: Caller, body: KeyRequest, idempotency_key: str | None) -> Answer:
    """A new key. Raises ApiError `key-exceeds-yours`."""
    asked = body.model_dump(mode="json")

    def make(session: Session) -> tuple[ApiKey, str]:
        scopes = body.scopes or caller.scopes
        expires_at = body.expires_at or caller.expires_at
        _require_no_more(caller, scopes, expires_at)
        return keys.create_key(
            session, tenant_id=caller.tenant_id, label=body.label, scopes=scopes, expires_at=expires_at
        )

    return _shown_once(parts, Post(caller.tenant_id, idempotency_key, "POST /keys", asked), make)


def rotate(parts: Parts, caller: Caller, key_id: str, body: RotationRequest, idempotency_key: str | None) -> Answer:
    """A new key in place of another, which ends after the overlap.

    Raises ApiError `key-not-found`, `key-exceeds-yours`. The caller's key must have all that the new one gets, else
    `keys` alone would open the way to every scope.
    """
    post = Post(caller.tenant_id, idempotency_key, f"POST /keys/{key_id}/rotate", body.model_dump(mode="json"))

    def make(session: Session) -> tuple[ApiKey, str]:
        old = keys.find_live(session, tenant_id=caller.tenant_id, key_id=key_id)
        if old is None:
            raise missing("key-not-found", "key", key_id)
        expires_at = body.expires_at or old.expires_at
        _require_no_more(caller, old.scopes, expires_at)
        return keys.rotate(session, old, overlap=timedelta(seconds=body.overlap_seconds), expires_at=expires_at)

    return _shown_once(parts, post, make)


def _shown_once(parts: Parts, post: Post, make: Callable[[Session], tuple[ApiKey, str]]) -> Answer:
    """The new key's plaintext is in this answer only, never in the answer stored under the Idempotency-Key."""
    plaintexts: list[str] = []

    def work(session: Session) -> Answer:
        row, plaintext = make(session)
        plaintexts.append(plaintext)
        shown = NewKey(**Key.model_validate(row, from_attributes=True).model_dump(), key=None)
        return Answer(201, shown.model_dump(mode="json"), {"Location": f"/keys/{row.id}"})

    answer = once(parts.factory, post, work)
    return replace(answer, body={**(answer.body or {}), "key": plaintexts[0]}) if answer.fresh else answer


def _require_no_more(caller: Caller, scopes: Collection[str], expires_at: datetime | None) -> None:
    outlives = caller.expires_at is not None and (expires_at is None or expires_at > caller.expires_at)
    if not outlives and set(scopes) <= set(caller.scopes):
        return
    until = caller.expires_at and caller.expires_at.isoformat()
    detail = f"Your key has the scopes {', '.join(caller.scopes)}" + (f" and ends at {until}." if until else ".")
    raise ApiError("key-exceeds-yours", detail, scopes=caller.scopes, expires_at=until)


def of_tenant(parts: Parts, caller: Caller) -> Keys:
    """All keys, revoked and expired ones too, newest first."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        rows = keys.list_keys(session, tenant_id=caller.tenant_id)
        return Keys(items=[Key.model_validate(row, from_attributes=True) for row in rows])


def revoke(parts: Parts, caller: Caller, key_id: str) -> None:
    """End a key at once. Raises ApiError `key-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        if not keys.revoke(session, tenant_id=caller.tenant_id, key_id=key_id):
            raise missing("key-not-found", "key", key_id)
