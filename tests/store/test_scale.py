"""With many jobs in the tables each query still reads only a few pages: counted, not timed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

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
FILL_FILES = """
INSERT INTO files (id, tenant_id, kind, name, bytes, sha256, canonical_path, canonical_sha256,
                   canonical_bytes, facts, expires_at, deleted_at)
SELECT gen_random_uuid(), :tenant, 'clean', 'x', 1, 'x', CASE WHEN n % 2 = 0 THEN 'x' END, 'x', 1, '{}',
       now() + CASE WHEN n % 5000 = 0 THEN interval '-1 day' ELSE interval '1 day' END,
       CASE WHEN n % 2 = 1 THEN now() END
FROM generate_series(1, :rows) AS n
"""
FILL_JOBS = """
INSERT INTO jobs (id, tenant_id, state, request, seed, suspect_file_id, clean_file_id, attempt, lease_until,
                  created_at, enqueued_at, started_at, finished_at, deadline_at, retention, expires_at)
SELECT gen_random_uuid(), CASE WHEN state = 'queued' THEN :neighbour ELSE :tenant END, state,
       jsonb_build_object('suspect', repeat(md5(n::text), 12)), 0, :suspect, :clean, 1,
       CASE WHEN state = 'running' THEN clock_timestamp() + interval '1 hour' END,
       moment, now(), moment, moment, now() + interval '1 day', interval '30 days',
       CASE WHEN state IN ('succeeded', 'failed') THEN now() + interval '30 days' END
FROM (SELECT n, now() - n * interval '1 second' AS moment,
             CASE WHEN n % 3 = 0 THEN 'queued' WHEN n % 1000 = 1 THEN 'running' WHEN n % 5000 = 2 THEN 'failed'
             ELSE 'succeeded' END AS state
      FROM generate_series(1, :rows) AS n) AS made
"""
FILL_LABELS = """
INSERT INTO job_labels (job_id, kind, key, value, tenant_id, created_at)
SELECT id, kind, 'team', CASE WHEN row_number() OVER (ORDER BY created_at) % 5000 = 0 THEN 'rare' ELSE 'common' END,
       tenant_id, created_at
FROM jobs
"""
LIMITS = quotas.Limits(running_jobs=1000, compute_seconds=10_000_000, queued_jobs=100, stored_bytes=1 << 40)
FILL_SPANS = """
INSERT INTO compute_spans (job_id, attempt, tenant_id, started_at, until)
SELECT id, 1, tenant_id, started_at - interval '2 days', started_at - interval '2 days' FROM jobs
"""
FILL_EVENTS = "INSERT INTO job_events (job_id, type, data) SELECT id, 'state', '{}' FROM jobs"


@pytest.fixture(params=[30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def crowd(request, factory, engine: Engine, tenant_id, other_tenant_id, make_file):
    """Many jobs: a third queued by a neighbour and sent just now, few running and failed, the rest succeeded."""
    values = {"tenant": tenant_id, "neighbour": other_tenant_id, "rows": request.param}
    values |= {"suspect": make_file("model"), "clean": make_file("clean")}
    with transaction(factory) as session:
        for fill in (FILL_FILES, FILL_JOBS, FILL_LABELS, FILL_EVENTS, FILL_SPANS):
            session.execute(text(fill), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


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
