"""With many jobs in the tables each query still reads only a few pages: counted, not timed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from bench.crowd import fill
from store import files, jobs, quotas
from store.database import SessionFactory, bind_tenant, transaction
from store.settings import Settings

MOST_PAGES = 400  # of 8 KiB; the jobs table alone has thousands
DEPTH = Settings.model_fields["max_queue_depth"].default
OF_THE_SERVICE = {
    "claim",
    "claim within limits",
    "jobs that were held back",
    "settle",
    "due",
    "expired jobs",
    "expired files",
    "purgeable files",
}
LIMITS = quotas.Limits(running_jobs=1000, compute_seconds=10_000_000, queued_jobs=100, stored_bytes=1 << 40)


@pytest.fixture(params=[30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def crowd(request, factory, engine: Engine, tenant_id, other_tenant_id, make_file):
    """Many jobs: a third queued by a neighbour and sent just now, few running and failed, the rest succeeded."""
    fill(
        engine,
        rows=request.param,
        tenant=tenant_id,
        neighbour=other_tenant_id,
        suspect=make_file("model"),
        clean=make_file("clean"),
    )


@contextmanager
def recorded(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """The statements that ran inside the block."""
    statements: list[tuple[str, Any]] = []

    def record(_connection, _cursor, statement, parameters, _context, _many):
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", record)
    yield statements
    event.remove(engine, "before_cursor_execute", record)


def pages_read(factory: SessionFactory, engine: Engine, use: Callable[[Any], object]) -> int:
    """Most pages that one of the statements of `use` touches, by Postgres's own count. Changes nothing."""
    with recorded(engine) as statements, factory() as session:
        use(session)
    counts = []
    with engine.connect() as connection:  # the same statements once more, explained, and rolled back
        for statement, parameters in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            root = plan.scalar_one()[0]["Plan"]
            counts.append(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
    assert counts
    return max(counts)


def as_tenant(tenant_id: UUID, use: Callable[[Any], object]) -> Callable[[Any], object]:
    """`use` under row-level security."""

    def bound(session: Session) -> None:
        bind_tenant(session, tenant_id)
        use(session)

    return bound


@pytest.mark.timeout(900)
def test_no_query_grows_with_the_number_of_rows(
    crowd, factory, engine, tenant_id, make_file, make_job, claim, let_pass
):
    lost, late, fresh = make_job().id, make_job().id, make_job(labels={"team": "rare"})
    spare = make_file("clean")
    claim(lost)
    let_pass(lost, "lease_until")
    let_pass(late, "deadline_at")
    with transaction(factory) as session:
        middle = jobs.list_jobs(session, tenant_id=tenant_id, kind="repair", limit=15_000)[1]
    own = {"tenant_id": tenant_id, "job_id": fresh.id}

    def page(kind="repair", **filters):
        return lambda session: jobs.list_jobs(session, tenant_id=tenant_id, kind=kind, limit=50, **filters)

    uses = {
        "first page": page(),
        "a page in the middle": page(cursor=middle),
        "a page of a rare state": page(state="failed"),
        "a page of a common label": page(label=("team", "common")),
        "a page of a rare label": page(label=("team", "rare")),
        "a page of a missing label": page(label=("team", "none")),
        "a page of a rare kind": page(kind="analysis"),
        "a page of a rare kind in a common state": page(kind="analysis", state="succeeded"),
        "a page of a rare kind with a common label": page(kind="analysis", label=("team", "common")),
        "events": lambda session: jobs.events_after(session, **own, after_id=0, limit=50),
        "position": lambda session: jobs.queue_position(session, **own),
        "depth of the queue": lambda session: jobs.queue_depth(session, at_most=DEPTH),
        "cancel": lambda session: jobs.request_cancel(session, **own),
        "create": lambda session: jobs.create_job(
            session,
            tenant_id=tenant_id,
            request={},
            suspect_file_id=fresh.suspect_file_id,
            clean_file_id=fresh.clean_file_id,
            labels={},
            seed=0,
            deadline=fresh.retention,
            retention=fresh.retention,
            max_queued=100,
        ),
        "claim": lambda session: jobs.claim(session, job_id=fresh.id, worker="w", lease_seconds=9, max_attempts=3),
        "claim within limits": lambda session: jobs.claim(
            session, job_id=fresh.id, worker="w", lease_seconds=9, max_attempts=3, limits=LIMITS
        ),
        "jobs that were held back": lambda session: quotas.may_start_now(session, tenant_id=tenant_id, default=LIMITS),
        "usage": lambda session: quotas.limits_and_usage(session, tenant_id=tenant_id, default=LIMITS),
        "settle": lambda session: jobs.settle_overdue(session, max_attempts=3),
        "due": lambda session: jobs.due_jobs(session, older_than_seconds=600, limit=50),
        "expired jobs": lambda session: jobs.expired_jobs(session),
        "expired files": lambda session: files.expire(session, limit=5),
        "purgeable files": lambda session: files.purgeable(session),
        "delete file": lambda session: files.delete_file(session, tenant_id=tenant_id, file_id=spare),
    }
    for name in set(uses) - OF_THE_SERVICE:
        uses[f"{name}, as a request does it"] = as_tenant(tenant_id, uses[name])
    pages = {name: pages_read(factory, engine, use) for name, use in uses.items()}
    assert {name: count for name, count in pages.items() if count > MOST_PAGES} == {}
