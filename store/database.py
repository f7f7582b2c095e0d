"""Engine, sessions, transactions and advisory locks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

SessionFactory = sessionmaker[Session]
TENANT_ROLE: Final = "modeconn_tenant"  # made by migration 0003
IDLE_SECONDS: Final = 30
DATABASE_AWAY: Final = (OperationalError, InterfaceError, InternalError)
"""What a statement raises when the server or the connection is gone; the last one when it was idle for too long."""


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """A pool on `url` that notices dead connections and gives up on a silent server after 10 seconds.

    The server ends a transaction in which nothing happens for `IDLE_SECONDS`: a process that was frozen within one
    would hold its locks for as long, and with them everybody who wants the same job or the sweep.
    """
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={
            "connect_timeout": 10,
            "application_name": "modeconn",
            "options": f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
        },
    )


def session_factory(engine: Engine) -> SessionFactory:
    """Sessions whose rows stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: SessionFactory) -> Iterator[Session]:
    """One transaction for the whole service: commits when the block ends, rolls back when it raises."""
    with factory.begin() as session:
        yield session


@contextmanager
def tenant_transaction(factory: SessionFactory, tenant_id: UUID) -> Iterator[Session]:
    """The same for one tenant: to its statements, the rows of others do not exist."""
    with factory.begin() as session:
        bind_tenant(session, tenant_id)
        yield session


def bind_tenant(session: Session, tenant_id: UUID) -> None:
    """Until this transaction ends, row-level security shows the tenant's own rows alone."""
    local_role = func.set_config("role", TENANT_ROLE, True)
    session.execute(select(local_role, func.set_config("modeconn.tenant", str(tenant_id), True)))


def flush_and_read(session: Session, row: object) -> None:
    """Write `row`, and read back what the database computed (times above all), so that it stays readable."""
    session.flush()
    session.refresh(row)


def try_lock(session: Session, name: str) -> bool:
    """Take the advisory lock `name` until this transaction ends; False at once when somebody else has it.

    For work that any process may do, but only one at a time (sweeping, expiry, one idempotency key).
    """
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0)))))
