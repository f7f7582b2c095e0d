"""Engine, sessions, transactions and advisory locks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

SessionFactory = sessionmaker[Session]
TENANT_ROLE: Final = "modeconn_tenant"  # made by migration 0003
IDLE_SECONDS: Final = 30
DATABASE_AWAY: Final = (OperationalError, InterfaceError, InternalError)
"""What a statement raises when the server or the connection is gone; the last one when it was idle for too long."""


_BECOME_TENANT: Final = text("SELECT set_config('role', :role, true), set_config('modeconn.tenant', :tenant, true)")
_FRESH_SECONDS: Final = 1.0


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """A pool on `url` that notices dead connections and gives up on a silent server after 10 seconds.

    The server ends a transaction in which nothing happens for `IDLE_SECONDS`: a process that was frozen within one
    would hold its locks for as long, and with them everybody who wants the same job or the sweep.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={
            "connect_timeout": 10,
            "application_name": "modeconn",
            "options": f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
        },
    )
    _ping_what_was_idle(engine)
    return engine


def _ping_what_was_idle(engine: Engine) -> None:
    """Like `pool_pre_ping`, but a connection that was in use a moment ago is not asked: busy servers save a trip."""

    def note(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    def ping(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info.get("used_at", time.monotonic()) < _FRESH_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            raise DisconnectionError("the connection died while it was idle") from error

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ping)


def session_factory(engine: Engine) -> SessionFactory:
    """Sessions whose rows stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: SessionFactory) -> Iterator[Session]:
    """One transaction for the whole service: commits when the block ends, rolls back when it raises."""
    with factory.begin() as session:
        yield session


@contextmanager
def reading(factory: SessionFactory) -> Iterator[Session]:
    """Statements for the whole service that each stand for themselves: no transaction around them, two trips less."""
    with factory() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


@contextmanager
def tenant_transaction(factory: SessionFactory, tenant_id: UUID) -> Iterator[Session]:
    """The same for one tenant: to its statements, the rows of others do not exist."""
    with factory.begin() as session:
        bind_tenant(session, tenant_id)
        yield session


def bind_tenant(session: Session, tenant_id: UUID) -> None:
    """Until this transaction ends, row-level security shows the tenant's own rows alone."""
    session.connection().execute(_BECOME_TENANT, {"role": TENANT_ROLE, "tenant": str(tenant_id)})


def flush_and_read(session: Session, row: object) -> None:
    """Write `row`, and read back what the database computed (times above all), so that it stays readable."""
    session.flush()
    session.refresh(row)


def try_lock(session: Session, name: str) -> bool:
    """Take the advisory lock `name` until this transaction ends; False at once when somebody else has it.

    For work that any process may do, but only one at a time (sweeping, expiry, one idempotency key).
    """
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0)))))
