"""API keys `mcr_<id>_<secret>`: the secret (256 bits) is shown once, its SHA-256 is kept."""

import hashlib
import os
import secrets
import string
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store.database import make_engine, session_factory, transaction
from store.settings import DatabaseSettings
from store.tables import SCOPES, ApiKey, Tenant

PREFIX = "mcr"
ID_CHARACTERS = 12
USE_RESOLUTION = timedelta(minutes=1)  # last_used_at is at most this old: not one write per request


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def ensure_tenant(session: Session, *, name: str) -> UUID:
    """Id of the tenant with this name, made if need be."""
    session.execute(insert(Tenant).values(name=name).on_conflict_do_nothing(index_elements=["name"]))
    return session.scalars(select(Tenant.id).where(Tenant.name == name)).one()


def create_key(
    session: Session,
    *,
    tenant_id: UUID,
    label: str,
    scopes: Collection[str] = SCOPES,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its plaintext, which cannot be had again."""
    alphabet = string.ascii_lowercase + string.digits
    key_id = "".join(secrets.choice(alphabet) for _ in range(ID_CHARACTERS))
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        id=key_id,
        tenant_id=tenant_id,
        secret_sha256=_sha256(secret),
        label=label,
        scopes=[scope for scope in SCOPES if scope in scopes],
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, f"{PREFIX}_{key_id}_{secret}"


def authenticate(session: Session, plaintext: str) -> ApiKey | None:
    """The key that this is, unless it is wrong, expired or revoked. Notes its use, once a minute."""
    prefix, _, rest = plaintext.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or len(key_id) != ID_CHARACTERS or not key_id.isascii() or not key_id.isalnum() or not secret:
        return None
    unnoted = func.coalesce(ApiKey.last_used_at < func.now() - USE_RESOLUTION, true())
    found = session.execute(select(ApiKey, unnoted).where(ApiKey.id == key_id, _is_live())).one_or_none()
    if found is None or not secrets.compare_digest(found[0].secret_sha256, _sha256(secret)):
        return None
    key, is_unnoted = found
    if is_unnoted:
        noted = update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=func.now())
        session.execute(noted.execution_options(synchronize_session=False))
    return key


def find_live(session: Session, *, tenant_id: UUID, key_id: str) -> ApiKey | None:
    """The tenant's key, unless it is expired or revoked; its row is locked until the transaction ends."""
    return session.scalar(
        select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id, _is_live()).with_for_update()
    )


def rotate(session: Session, old: ApiKey, *, overlap: timedelta, expires_at: datetime | None) -> tuple[ApiKey, str]:
    """A new key with the label and scopes of `old`, which expires after `overlap` (or before, if it was to)."""
    old.expires_at = func.least(ApiKey.expires_at, func.now() + overlap)  # LEAST ignores NULL
    return create_key(session, tenant_id=old.tenant_id, label=old.label, scopes=old.scopes, expires_at=expires_at)


def _is_live() -> ColumnElement[bool]:
    return ApiKey.revoked_at.is_(None) & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()))


def revoke(session: Session, *, tenant_id: UUID, key_id: str) -> bool:
    """End a key at once. False: the tenant has no such key (or it was revoked before)."""
    revoked = session.scalar(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey.id)
        .execution_options(synchronize_session=False)
    )
    return revoked is not None


def list_keys(session: Session, *, tenant_id: UUID) -> Sequence[ApiKey]:
    """The tenant's keys, newest first, revoked and expired ones included."""
    return session.scalars(
        select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at.desc(), ApiKey.id)
    ).all()


def write_key_file(session: Session, *, tenant_name: str, out: Path) -> bool:
    """Leave a working key of the tenant in `out` (mode 0600). False: the one that lies there works."""
    tenant_id = ensure_tenant(session, name=tenant_name)
    if out.exists():
        present = authenticate(session, out.read_text().strip())
        if present is not None and present.tenant_id == tenant_id:
            return False
    _, plaintext = create_key(session, tenant_id=tenant_id, label=f"{tenant_name} key of {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(plaintext + "\n")
    partial.replace(out)
    return True


def main(
    tenant: Annotated[str, typer.Argument(help="Name of the tenant; made if need be.")],
    out: Annotated[Path, typer.Option(help="File for the key, mode 0600; a working key there is kept.")],
) -> None:
    """Make an API key for a tenant of the database that DATABASE_URL names."""
    engine = make_engine(DatabaseSettings().database_url)  # type: ignore[call-arg]  # from the environment
    with transaction(session_factory(engine)) as session:
        write_key_file(session, tenant_name=tenant, out=out)
    engine.dispose()


if __name__ == "__main__":
    typer.run(main)
