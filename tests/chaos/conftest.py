"""One service for all faults, its own Postgres and Redis included; a tenant of its own for each test."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import func, select

from client import Client
from client.sdk import Kind
from client.serving import embedded
from migrations import alembic_config
from store import keys
from store.database import SessionFactory, make_engine, session_factory, transaction
from store.settings import Settings
from store.storage import LocalStorage
from store.tables import Job
from tests.api.conftest import CLASSES, model_bytes, zip_of
from tests.chaos.oracle import Audit, audit
from tests.chaos.service import HEARTBEAT_SECONDS, LEASE_SECONDS, PATIENCE, SWEEP_SECONDS, Customer, Service, wait_for
from tests.conftest import free_port


@pytest.fixture(scope="session")
def whole_service() -> Iterator[Service]:
    """Runs until the session ends. Not under tmp_path: as root Postgres runs under an account of its own."""
    folder = Path(tempfile.mkdtemp(prefix="modeconn-chaos-"))
    postgres, database_url = embedded.postgres(folder / "pgdata", folder / "postgres.log", os.environ)
    redis, redis_url = embedded.redis(folder, folder / "redis.log", os.environ)
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        storage_url=(folder / "storage").as_uri(),
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        sweep_seconds=SWEEP_SECONDS,
    )
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "STORAGE_URL": settings.storage_url,
        "MODECONN_LEASE_SECONDS": str(LEASE_SECONDS),
        "MODECONN_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        "MODECONN_SWEEP_SECONDS": str(SWEEP_SECONDS),
        "MODECONN_MAX_QUEUED_JOBS": "10000",
        "MODECONN_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    service = Service(folder, settings, environment, postgres, redis, free_port())
    try:
        service.start_postgres()
        command.upgrade(alembic_config(database_url), "head")
        yield service
    finally:
        service.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def service(whole_service: Service) -> Iterator[Service]:
    """All parts but the workers run; the workers that the test started are gone after it."""
    whole_service.heal()
    yield whole_service
    whole_service.stop_workers()


@pytest.fixture
def database(service: Service) -> Iterator[SessionFactory]:
    engine = make_engine(service.settings.database_url)
    yield session_factory(engine)
    engine.dispose()


@pytest.fixture
def customer(service: Service, database: SessionFactory, tmp_path: Path) -> Customer:
    """Someone with a key and two uploaded files."""
    with transaction(database) as session:
        tenant_id = keys.ensure_tenant(session, name=uuid4().hex)
        _, key = keys.create_key(session, tenant_id=tenant_id, label="chaos")
    uploads: list[tuple[Kind, str, bytes]] = [
        ("model", "model.safetensors", model_bytes()),
        ("clean", "clean.zip", zip_of(CLASSES)),
    ]
    with Client(service.url, key) as client:
        ids = []
        for kind, name, content in uploads:
            (tmp_path / name).write_bytes(content)
            ids.append(client.upload(tmp_path / name, kind).id)
    return Customer(service.url, key, tenant_id, (ids[0], ids[1]))


@pytest.fixture
def settle(service: Service, database: SessionFactory, customer: Customer) -> Callable[[], Audit]:
    """A function that waits until every accepted job has ended, and then compares."""
    storage = LocalStorage(service.settings.storage_root)

    def unended() -> int:
        with transaction(database) as session:
            open_jobs = select(func.count()).where(Job.tenant_id == customer.tenant_id, Job.finished_at.is_(None))
            return session.scalar(open_jobs.select_from(Job)) or 0

    def wait_and_compare() -> Audit:
        wait_for(lambda: unended() == 0, "the end of all jobs", PATIENCE + 3 * len(customer.accepted))
        found = audit(database, storage, customer.tenant_id, customer.accepted)
        print(f"{len(customer.accepted)} accepted: {found}")
        return found

    return wait_and_compare
