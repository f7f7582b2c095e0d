"""Makes, lists and revokes the keys of the caller's tenant."""

from dataclasses import replace

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts, missing
from api.idempotency import Answer, Post, once
from api.keys.schemas import Key, KeyRequest, Keys, NewKey
from store import keys
from store.database import tenant_transaction


def create(parts: Parts, caller: Caller, body: KeyRequest, idempotency_key: str | None) -> Answer:
    """A new key. Its plaintext is in this answer only, never in the answer stored under the Idempotency-Key."""
    plaintexts: list[str] = []

    def work(session: Session) -> Answer:
        row, plaintext = keys.create_key(
            session, tenant_id=caller.tenant_id, label=body.label, expires_at=body.expires_at
        )
        plaintexts.append(plaintext)
        shown = NewKey(**Key.model_validate(row, from_attributes=True).model_dump(), key=None)
        return Answer(201, shown.model_dump(mode="json"), {"Location": f"/keys/{row.id}"})

    post = Post(caller.tenant_id, idempotency_key, "POST /keys", body.model_dump(mode="json"))
    answer = once(parts.factory, post, work)
    return replace(answer, body={**(answer.body or {}), "key": plaintexts[0]}) if answer.fresh else answer


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
