"""Fills a database with many jobs, as years of use would leave them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Engine, text

_FILES = """
INSERT INTO files (id, tenant_id, kind, name, bytes, sha256, canonical_path, canonical_sha256,
                   canonical_bytes, facts, expires_at, deleted_at)
SELECT gen_random_uuid(), :tenant, 'clean', 'x', 1, 'x', CASE WHEN n % 2 = 0 THEN 'x' END, 'x', 1, '{}',
       now() + CASE WHEN n % 5000 = 0 THEN interval '-1 day' ELSE interval '1 day' END,
       CASE WHEN n % 2 = 1 THEN now() END
FROM generate_series(1, :rows) AS n
"""
_JOBS = """
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
_LABELS = """
INSERT INTO job_labels (job_id, kind, key, value, tenant_id, created_at)
SELECT id, kind, 'team', CASE WHEN row_number() OVER (ORDER BY created_at) % 5000 = 0 THEN 'rare' ELSE 'common' END,
       tenant_id, created_at
FROM jobs
"""
_SPANS = """
INSERT INTO compute_spans (job_id, attempt, tenant_id, started_at, until)
SELECT id, 1, tenant_id, started_at - interval '2 days', started_at - interval '2 days' FROM jobs
"""
_EVENTS = "INSERT INTO job_events (job_id, type, data) SELECT id, 'state', '{}' FROM jobs"


def fill(engine: Engine, *, rows: int, tenant: UUID, neighbour: UUID, suspect: UUID, clean: UUID) -> None:
    """Add that many jobs with labels, events and compute, and as many files.

    A third is queued by the `neighbour` and was sent just now; of the `tenant`'s few run or have failed, the rest have
    succeeded. `suspect` and `clean`: ids of files that they name.
    """
    values = {"tenant": tenant, "neighbour": neighbour, "rows": rows, "suspect": suspect, "clean": clean}
    with engine.begin() as connection:
        for statement in (_FILES, _JOBS, _LABELS, _EVENTS, _SPANS):
            connection.execute(text(statement), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
