"""What endpoints ask for: the application's parts, the caller, the Idempotency-Key."""

from asyncio import Event
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from anyio import CapacityLimiter
from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api.attestation.signing import Signing
from api.errors import ApiError
from api.inspector import Inspector
from api.jobs.room import QueueRoom
from api.metrics import Metrics
from api.rates import Rates
from intake.launcher import Sandbox
from store import keys
from store.checked import CheckedFiles
from store.database import SessionFactory, reading
from store.settings import Settings
from store.storage import LocalStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one API process shares between its requests."""

    settings: Settings
    factory: SessionFactory
    storage: LocalStorage
    checked: CheckedFiles
    inspector: Inspector
    metrics: Metrics
    queue_room: QueueRoom
    rates: Rates
    intake_slots: CapacityLimiter  # conversions at the same time
    writers: CapacityLimiter  # threads that write uploads to the disk; a slow disk holds up uploads and nothing else
    sandbox: Sandbox  # what shuts the readers of uploads in on this machine
    signing: Signing | None  # None: no key is configured
    stopping: Event  # set when the server is told to stop: open streams end


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request."""

    tenant_id: UUID
    key_id: str
    scopes: tuple[str, ...]
    expires_at: datetime | None


async def parts_of(request: Request) -> Parts:
    """The parts that the lifespan put together. (async: a plain function would cost a trip to another thread.)"""
    parts: Parts = request.app.state.parts
    return parts


_bearer = HTTPBearer(auto_error=False, bearerFormat="mcr_<id>_<secret>", description="A ModeConn API key.")


def authenticate(
    request: Request,
    needed: SecurityScopes,
    parts: Annotated[Parts, Depends(parts_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller:
    """The caller behind the Bearer key.

    Raises ApiError `key-missing`, `key-not-valid`, `key-scope-missing`, `too-many-requests`.
    """
    challenge = {"WWW-Authenticate": "Bearer"}
    if credentials is None:
        raise ApiError("key-missing", "Send your key as `Authorization: Bearer mcr_...`.", headers=challenge)
    with reading(parts.factory) as session:
        key = keys.authenticate(session, credentials.credentials)
        caller = Caller(key.tenant_id, key.id, tuple(key.scopes), key.expires_at) if key else None
    if caller is None:
        parts.rates.count_failure(request.client.host if request.client else "unknown")
        challenge["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        raise ApiError("key-not-valid", "The key is unknown, expired or revoked.", headers=challenge)
    request.state.key_id = caller.key_id  # for the log line
    request.state.answer_headers.update(parts.rates.count_request(caller.key_id))
    if lacking := [scope for scope in needed.scopes if scope not in caller.scopes]:
        challenge["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{needed.scope_str}"'
        detail = f"The route needs the scope `{lacking[0]}`; the key has {', '.join(caller.scopes) or 'none'}."
        extra = {"needed": lacking[0], "scopes": caller.scopes}
        raise ApiError("key-scope-missing", detail, headers=challenge, **extra)
    return caller


PartsDep = Annotated[Parts, Depends(parts_of)]
ReaderDep = Annotated[Caller, Security(authenticate, scopes=["read"])]
WriterDep = Annotated[Caller, Security(authenticate, scopes=["write"])]
KeyKeeperDep = Annotated[Caller, Security(authenticate, scopes=["keys"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes a repeated POST safe: the same key and body get the stored answer.",
    ),
]


def parse_id(text: str, slug: str, noun: str) -> UUID:
    """The UUID in a path or body; what is no UUID names nothing, so it is answered like a missing one."""
    try:
        return UUID(text)
    except ValueError:
        raise missing(slug, noun, text) from None


def missing(slug: str, noun: str, text: object) -> ApiError:
    """The one answer for missing, foreign and malformed ids."""
    return ApiError(slug, f"No {noun} of yours has the id {str(text)!r}.", id=str(text))
