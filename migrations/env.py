"""How alembic reaches the database: one migrator at a time, by an advisory lock; all steps in one transaction."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from store.settings import DatabaseSettings
from store.tables import Base

MIGRATION_LOCK = 0x6D6F6465636F6E6E  # "modeconn"


def run_migrations() -> None:
    """Migrate the database named by the caller, or else by DATABASE_URL."""
    url = context.config.attributes.get("database_url") or DatabaseSettings().database_url
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.commit()  # the lock belongs to the connection and outlives this commit
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()


run_migrations()
