"""Real services for every test: one Postgres and one Redis for the session, a fresh migrated database per test."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import hypothesis
import pytest
import redis
from alembic import command
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from client.serving import embedded
from client.serving.embedded import LOCALHOST as LOCALHOST
from client.serving.embedded import free_port as free_port
from client.serving.parts import Guard, Launch, Part
from migrations import alembic_config
from store.database import TENANT_ROLE, SessionFactory, make_engine, session_factory, transaction
from store.settings import Settings
from store.storage import LocalStorage
from store.tables import Tenant

TEMPLATE = "modeconn_template"

os.environ.pop("COLUMNS", None)  # xdist gives it to its workers, and the command would keep to it

# the same examples every time and no clock: what failed once fails again, also on a busy machine
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@retry(retry=retry_if_result(lambda is_ready: not is_ready), stop=stop_after_delay(120), wait=wait_fixed(0.05))
def _wait_until(is_ready: Callable[[], bool]) -> bool:
    return is_ready()


@contextmanager
def _running(launch: Launch, is_ready: Callable[[Part], bool]) -> Iterator[None]:
    """The process that `launch` starts, once it is ready; ended with the block, or by the guard if pytest is killed."""
    guard, part = Guard(), launch.start()
    guard.watch(part)
    try:
        _wait_until(lambda: is_ready(part))
        yield
    finally:
        part.stop()
        guard.dismiss()


@pytest.fixture(scope="session")
def postgres_admin() -> Iterator[Engine]:
    """A throw-away Postgres, the one that `modeconn serve` embeds; connections commit at once."""
    folder = Path(tempfile.mkdtemp(prefix="modeconn-pg-"))
    data = folder / "pgdata"
    launch, url = embedded.postgres(data, folder / "log", os.environ)
    with _running(launch, lambda part: embedded.postgres_ready(data, part.process.pid)):
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            for setting in ("fsync = off", "full_page_writes = off"):
                connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        yield engine
    shutil.rmtree(folder)


def _named(url: URL, database: str) -> str:
    return url.set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def migrated_template(postgres_admin: Engine) -> str:
    """Name of a database that the real migrations made; tests get copies of it."""
    with postgres_admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {TEMPLATE}")
    command.upgrade(alembic_config(_named(postgres_admin.url, TEMPLATE)), "head")
    return TEMPLATE


def _create_database(connection: Connection, name: str, template: str) -> None:
    connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")


@pytest.fixture
def empty_database_url(postgres_admin: Engine) -> Iterator[str]:
    """URL of a database without any table."""
    name = f"empty_{uuid4().hex}"
    with postgres_admin.connect() as connection:
        _create_database(connection, name, "template0")
        yield _named(postgres_admin.url, name)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def hosted_database_urls(postgres_admin: Engine, migrated_template: str) -> Iterator[list[str]]:
    """URLs of two databases without tables, as a hosted Postgres gives them: their owner is no superuser.

    The tenants' role is there already, made by the template's migration.
    """
    owner, names = f"owner_{uuid4().hex}", [f"hosted_{uuid4().hex}" for _ in range(2)]
    with postgres_admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {owner} LOGIN CREATEROLE")
        connection.exec_driver_sql(f"GRANT {TENANT_ROLE} TO {owner} WITH ADMIN OPTION")
        for name in names:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {owner}")
        yield [_named(postgres_admin.url.set(username=owner), name) for name in names]
        for name in names:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        connection.exec_driver_sql(f"DROP ROLE {owner}")


@pytest.fixture
def database_url(postgres_admin: Engine, migrated_template: str) -> Iterator[str]:
    """URL (postgresql+psycopg://) of this test's own migrated database."""
    name = f"test_{uuid4().hex}"
    with postgres_admin.connect() as connection:
        _create_database(connection, name, migrated_template)
        yield _named(postgres_admin.url, name)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a throw-away Redis, the one that `modeconn serve` embeds."""
    folder = Path(tempfile.mkdtemp(prefix="modeconn-redis-"))
    launch, url = embedded.redis(folder, folder / "log", os.environ)
    with _running(launch, lambda _part: embedded.redis_ready(url)):
        yield url
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings on this test's database, Redis and folder, with leases and sweeps short enough to wait for."""
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        storage_url=(tmp_path / "storage").as_uri(),
        lease_seconds=3,
        heartbeat_seconds=0.5,
        sweep_seconds=0.5,
        device="cpu",
        threads=1,
    )


@pytest.fixture
def service_environment(settings: Settings) -> dict[str, str]:
    """This process's environment plus `settings`, for child processes (uvicorn, celery, migrations)."""
    return {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "STORAGE_URL": settings.storage_url,
        "MODECONN_LEASE_SECONDS": str(settings.lease_seconds),
        "MODECONN_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "MODECONN_SWEEP_SECONDS": str(settings.sweep_seconds),
        "MODECONN_DEVICE": settings.device,
        "MODECONN_THREADS": str(settings.threads),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def factory(engine: Engine) -> SessionFactory:
    """Session factory; use with `store.database.transaction(factory)`."""
    return session_factory(engine)


@pytest.fixture
def storage(settings: Settings) -> LocalStorage:
    return LocalStorage(settings.storage_root)


@pytest.fixture
def tenant_id(factory: SessionFactory) -> UUID:
    return _new_tenant(factory, "tenant")


@pytest.fixture
def other_tenant_id(factory: SessionFactory) -> UUID:
    """A neighbour, who must never see anything of `tenant_id`'s."""
    return _new_tenant(factory, "neighbour")


def _new_tenant(factory: SessionFactory, name: str) -> UUID:
    with transaction(factory) as session:
        tenant = Tenant(name=name)
        session.add(tenant)
        session.flush()
        return tenant.id
