"""Row-level security behind the tenant in every WHERE: what a forgotten one shows, and that no table is left out."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from store import idempotency, jobs, keys, partial_uploads, selections
from store.database import SessionFactory, session_factory, tenant_transaction, transaction
from store.tables import Base, Job, JobEvent, Tenant
from tests.store.conftest import DAY, MakeFile, MakeJob, analysis_point, curve_point

TABLES = sorted(Base.metadata.tables)


@pytest.fixture
def furnish(
    factory: SessionFactory, make_job: MakeJob, make_file: MakeFile, claim: Callable[[UUID], Job | None]
) -> Callable[[UUID], None]:
    """Gives a tenant one row or more in every table."""

    def repair(owner: UUID) -> None:
        job = claim(make_job(owner=owner, labels={"team": "a"}).id)
        assert job is not None
        held: dict[str, Any] = {"job_id": job.id, "attempt": 1}
        artifact = jobs.NewArtifact(name="x", path="x", bytes=1, sha256="x", media_type="x")
        with transaction(factory) as session:
            jobs.record_points(session, **held, points=[curve_point(0.5)])
            jobs.finish(session, **held, result={"t": 0.5}, artifacts=[artifact])
            selections.create(session, tenant_id=owner, job_id=job.id, t=0.3, max_queued=9)

    def furnish_all(owner: UUID) -> None:
        repair(owner)
        second = make_file("model", owner=owner)
        analysis = claim(make_job(owner=owner, kind="analysis", second_file_id=second).id)
        assert analysis is not None
        with transaction(factory) as session:
            points = [analysis_point("standard", 0.5)]
            jobs.record_analysis_points(session, job_id=analysis.id, attempt=1, points=points)
            keys.create_key(session, tenant_id=owner, label="x")
            partial_uploads.create(session, tenant_id=owner, kind="model", name=None, bytes=1)
            answer: dict[str, Any] = {"method_path": "x", "body_sha256": "x", "status": 200, "headers": {}, "body": {}}
            idempotency.complete(session, tenant_id=owner, key="x", **answer)

    return furnish_all


def rows(session: Session, table: str) -> int:
    """All rows that a query without any WHERE finds."""
    return session.scalar(select(func.count()).select_from(Base.metadata.tables[table])) or 0


def test_a_forgotten_where_shows_the_own_rows_alone(
    factory: SessionFactory, tenant_id: UUID, other_tenant_id: UUID, make_job: MakeJob
) -> None:
    own = {make_job().id, make_job().id}
    make_job(owner=other_tenant_id)
    with tenant_transaction(factory, tenant_id) as session:
        assert {job.id for job in session.scalars(select(Job))} == own


@pytest.mark.parametrize("table", TABLES)
def test_every_table_shows_the_own_rows_alone(
    factory: SessionFactory, tenant_id: UUID, other_tenant_id: UUID, furnish: Callable[[UUID], None], table: str
) -> None:
    furnish(tenant_id)
    with transaction(factory) as session:
        before = rows(session, table)
    furnish(other_tenant_id)
    with transaction(factory) as session:
        assert rows(session, table) > max(before, 1) or table == "tenants"
    with tenant_transaction(factory, tenant_id) as session:
        assert rows(session, table) == (1 if table == "tenants" else before) > 0
    with tenant_transaction(factory, uuid4()) as session:
        assert rows(session, table) == 0


@pytest.mark.parametrize("table", TABLES)
def test_without_a_tenant_nothing_is_seen(
    factory: SessionFactory, tenant_id: UUID, furnish: Callable[[UUID], None], table: str
) -> None:
    furnish(tenant_id)
    with tenant_transaction(factory, tenant_id):
        pass  # the setting of an earlier transaction on the same connection is gone
    with transaction(factory) as session:
        session.execute(text("SET LOCAL ROLE modeconn_tenant"))
        assert rows(session, table) == 0


def test_every_table_is_secured(engine: Engine) -> None:
    """A new table without a policy fails here."""
    secured = text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
    own_rows = text("SELECT tablename FROM pg_policies WHERE policyname = 'own_rows' AND cmd = 'ALL'")
    with engine.connect() as connection:
        present = set(inspect(connection).get_table_names()) - {"alembic_version"}
        assert present == set(TABLES)
        assert set(connection.scalars(secured)) == present
        assert set(connection.scalars(own_rows)) == present


def test_a_forgotten_where_writes_to_the_own_rows_alone(
    factory: SessionFactory, tenant_id: UUID, other_tenant_id: UUID, make_job: MakeJob, see: Callable[[UUID], Job]
) -> None:
    mine, theirs = make_job(), make_job(owner=other_tenant_id)
    with tenant_transaction(factory, tenant_id) as session:
        session.execute(update(Job).values(state="cancelled").execution_options(synchronize_session=False))
    assert (see(mine.id).state, see(theirs.id).state) == ("cancelled", "queued")


def test_nothing_can_be_written_under_the_name_of_another(
    factory: SessionFactory, tenant_id: UUID, other_tenant_id: UUID, make_job: MakeJob
) -> None:
    mine, theirs = make_job(), make_job(owner=other_tenant_id)
    moved = update(Job).where(Job.id == mine.id).values(tenant_id=other_tenant_id)
    event = insert(JobEvent).values(job_id=theirs.id, type="state", data={})
    for statement in (moved, event):
        with pytest.raises(DBAPIError, match="row-level security"), tenant_transaction(factory, tenant_id) as session:
            session.execute(statement.execution_options(synchronize_session=False))


def test_the_queue_is_counted_over_all_tenants(
    factory: SessionFactory, tenant_id: UUID, other_tenant_id: UUID, make_job: MakeJob
) -> None:
    make_job(owner=other_tenant_id)
    mine = make_job()
    with tenant_transaction(factory, tenant_id) as session:
        assert jobs.queue_position(session, tenant_id=tenant_id, job_id=mine.id) == 1
        assert jobs.queue_depth(session, at_most=9) == 2
        assert jobs.queue_depth(session, at_most=1) == 1


@pytest.fixture
def plain_owner(database_url: str, engine: Engine, postgres_admin: Engine) -> Iterator[SessionFactory]:
    """The service under a role that owns the tables and is no superuser, as at a hosted Postgres."""
    role = f"owner_{uuid4().hex}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT modeconn_tenant TO {role}")
        for table in TABLES:
            connection.exec_driver_sql(f"ALTER TABLE {table} OWNER TO {role}")
            connection.exec_driver_sql(f"ALTER POLICY whole_service ON {table} TO {role}")
        connection.exec_driver_sql(f"ALTER FUNCTION queued_before OWNER TO {role}")
    owner = create_engine(postgres_admin.url.set(username=role, database=engine.url.database))
    yield session_factory(owner)
    owner.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        connection.exec_driver_sql("ALTER FUNCTION queued_before OWNER TO CURRENT_USER")
        for table in TABLES:
            connection.exec_driver_sql(f"ALTER POLICY whole_service ON {table} TO CURRENT_USER")
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")


def test_a_service_that_is_no_superuser_works_the_same(
    plain_owner: SessionFactory, tenant_id: UUID, other_tenant_id: UUID, make_job: MakeJob
) -> None:
    mine, theirs = make_job(), make_job(owner=other_tenant_id)
    with transaction(plain_owner) as session:
        assert {job.id for job in session.scalars(select(Job))} == {mine.id, theirs.id}
        assert {tenant.id for tenant in session.scalars(select(Tenant))} == {tenant_id, other_tenant_id}
    with tenant_transaction(plain_owner, tenant_id) as session:
        assert [job.id for job in session.scalars(select(Job))] == [mine.id]
        assert jobs.queue_depth(session, at_most=9) == 2
        retry = jobs.create_job(
            session,
            tenant_id=tenant_id,
            request={},
            suspect_file_id=mine.suspect_file_id,
            clean_file_id=mine.clean_file_id,
            labels={"a": "b"},
            seed=0,
            deadline=DAY,
            retention=DAY,
            max_queued=9,
        )
        assert jobs.request_cancel(session, tenant_id=tenant_id, job_id=retry.id).state == "cancelled"
