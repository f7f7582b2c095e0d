"""With many jobs in the tables each query still reads only a few pages: counted, not timed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from store import files, jobs
from store.database import SessionFactory, transaction

MOST_PAGES = 400  # of 8 KiB; the jobs table alone has thousands
FILL = """
INSERT INTO jobs (id, tenant_id, state, request, seed, suspect_file_id, clean_file_id, attempt, lease_until,
                  created_at, enqueued_at, started_at, finished_at, deadline_at, retention, expires_at)
SELECT gen_random_uuid(), :tenant, state, jsonb_build_object('suspect', repeat(md5(n::text), 12)), 0, :suspect, :clean,
       CASE WHEN state = 'queued' THEN 0 ELSE 1 END,
       CASE WHEN state = 'running' THEN clock_timestamp() + interval '1 hour' END,
       moment, moment, moment, moment, now() + interval '1 day', interval '30 days',
       CASE WHEN state = 'succeeded' THEN moment + interval '30 years' END
FROM (SELECT n, now() - n * interval '1 second' AS moment,
             CASE WHEN n % 1000 = 0 THEN 'queued' WHEN n % 1000 = 1 THEN 'running' ELSE 'succeeded' END AS state
      FROM generate_series(1, :rows) AS n) AS made
"""
LABEL = """
INSERT INTO job_labels (job_id, key, value, tenant_id, created_at)
SELECT id, 'team', CASE WHEN row_number() OVER (ORDER BY created_at) % 5000 = 0 THEN 'rare' ELSE 'common' END,
       tenant_id, created_at
FROM jobs
"""


@pytest.fixture(params=[30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def crowd(request, factory, engine: Engine, tenant_id, make_file):
    """Many jobs of one tenant, one in a thousand queued (sent long ago), one in a thousand running."""
    values = {"tenant": tenant_id, "suspect": make_file("model"), "clean": make_file("clean"), "rows": request.param}
    with transaction(factory) as session:
        session.execute(text(FILL), values)
        session.execute(text(LABEL))
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
    for statement, parameters in statements:
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            found = plan.scalar_one()
            root = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
            counts.append(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
    assert counts
    return max(counts)


@pytest.mark.timeout(900)
def test_no_query_of_the_daily_round_grows_with_the_number_of_jobs(
    crowd, factory, engine, tenant_id, make_job, let_pass
):
    lost, late, fresh = make_job().id, make_job().id, make_job(labels={"team": "rare"}).id
    with transaction(factory) as session:
        jobs.claim(session, job_id=lost, worker="w", lease_seconds=60, max_attempts=3)
        middle = jobs.list_jobs(session, tenant_id=tenant_id, limit=20_000)[1]
    let_pass(lost, "lease_until")
    let_pass(late, "deadline_at")

    def page(**filters):
        return lambda session: jobs.list_jobs(session, tenant_id=tenant_id, limit=50, **filters)

    uses = {
        "first page": page(),
        "a page in the middle": page(cursor=middle),
        "a page of a rare state": page(state="running"),
        "a page of a common label": page(label=("team", "common")),
        "a page of a rare label": page(label=("team", "rare")),
        "a page of a missing label": page(label=("team", "none")),
        "claim": lambda session: jobs.claim(session, job_id=fresh, worker="w", lease_seconds=9, max_attempts=3),
        "settle": lambda session: jobs.settle_overdue(session, max_attempts=3),
        "due": lambda session: jobs.due_jobs(session, older_than_seconds=60, limit=50),
        "position": lambda session: jobs.queue_position(session, tenant_id=tenant_id, job_id=fresh),
        "expired jobs": lambda session: jobs.expired_jobs(session),
        "cancel": lambda session: jobs.request_cancel(session, tenant_id=tenant_id, job_id=fresh),
        "expired files": lambda session: files.expire(session),
    }
    pages = {name: pages_read(factory, engine, use) for name, use in uses.items()}
    assert {name: count for name, count in pages.items() if count > MOST_PAGES} == {}
