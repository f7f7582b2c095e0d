"""Runs the work of a POST once per Idempotency-Key, in one transaction with the stored answer."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from store import idempotency
from store.database import SessionFactory, tenant_transaction


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer as it is sent and stored. `fresh` is False when it was stored before."""

    status: int
    body: dict[str, Any] | None
    headers: dict[str, str] = field(default_factory=dict)
    fresh: bool = True

    def response(self) -> JSONResponse:
        """The HTTP response; a stored one says so."""
        replayed = {} if self.fresh else {"Idempotency-Replayed": "true"}
        return JSONResponse(self.body, status_code=self.status, headers={**self.headers, **replayed})


@dataclass(frozen=True, slots=True)
class Post:
    """What makes two POSTs the same: the tenant, its key, the address and the body."""

    tenant_id: UUID
    key: str | None
    method_path: str
    body: Any = None

    def body_sha256(self) -> str:
        """Hash of the body's meaning, not of its white space."""
        canonical = json.dumps(self.body, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


def once(factory: SessionFactory, post: Post, work: Callable[[Session], Answer]) -> Answer:
    """`work`'s answer, or the stored one if this key has been answered.

    A refusal (any exception from `work`) rolls everything back, so the key stays free for a corrected request.
    Raises store.errors.IdempotencyConflict and IdempotencyMismatch.
    """
    with tenant_transaction(factory, post.tenant_id) as session:
        if post.key is None:
            return work(session)
        begun = _begin(session, post, post.key)
        if isinstance(begun, idempotency.Replay):
            return _replayed(begun)
        answer = work(session)
        idempotency.complete(
            session,
            tenant_id=post.tenant_id,
            key=post.key,
            method_path=post.method_path,
            body_sha256=post.body_sha256(),
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
        )
        return answer


def _begin(session: Session, post: Post, key: str) -> idempotency.Fresh | idempotency.Replay:
    return idempotency.begin(
        session,
        tenant_id=post.tenant_id,
        key=key,
        method_path=post.method_path,
        body_sha256=post.body_sha256(),
    )


def _replayed(begun: idempotency.Replay) -> Answer:
    return Answer(begun.status, begun.body, begun.headers, fresh=False)


def stored_answer(factory: SessionFactory, post: Post) -> Answer | None:
    """The stored answer, if there is one: asked before work that is too long for a transaction."""
    if post.key is None:
        return None
    with tenant_transaction(factory, post.tenant_id) as session:
        begun = _begin(session, post, post.key)
    return _replayed(begun) if isinstance(begun, idempotency.Replay) else None
