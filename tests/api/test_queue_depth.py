"""The whole service's queue has an end, whoever filled it."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from store import jobs
from store.database import transaction
from store.tables import File, IdempotencyKey, Job
from tests.api.conftest import MAX_QUEUE_DEPTH, Tenant, problem

COUNTED_AGAIN = 1.1  # seconds: the server counts the queue once a second
FILL = """
INSERT INTO jobs (id, tenant_id, request, seed, suspect_file_id, clean_file_id, deadline_at, retention)
SELECT gen_random_uuid(), :tenant, '{}', 0, :suspect, :clean, now() + interval '1 day', interval '1 day'
FROM generate_series(1, :rows)
"""


@pytest.fixture
def fill_up(neighbour: Tenant, stock: dict[str, str]) -> Iterator[Callable[[int], None]]:
    """Queues a neighbour's jobs until there is room for so many more."""

    def fill(room: int) -> None:
        with transaction(neighbour.database) as session:
            rows = MAX_QUEUE_DEPTH - room - jobs.queue_depth(session, at_most=MAX_QUEUE_DEPTH)
            files = {"suspect": stock["suspect"], "clean": stock["clean"]}
            session.execute(text(FILL), {"tenant": neighbour.id, "rows": rows, **files})
        time.sleep(COUNTED_AGAIN)

    yield fill
    with transaction(neighbour.database) as session:
        session.execute(text("DELETE FROM jobs WHERE tenant_id = :tenant"), {"tenant": neighbour.id})
    time.sleep(COUNTED_AGAIN)  # for the tests that follow


def kept(tenant: Tenant) -> list[Any]:
    """All that a job leaves in the database."""
    with transaction(tenant.database) as session:
        return [
            session.scalar(select(func.count()).select_from(table).where(table.tenant_id == tenant.id))
            for table in (Job, IdempotencyKey)
        ] + list(session.scalars(select(File.expires_at).where(File.tenant_id == tenant.id).order_by(File.id)))


def test_a_full_queue_takes_no_more_until_there_is_room(
    tenant: Tenant, order: dict[str, Any], fill_up: Callable[[int], None]
) -> None:
    def post(address: str, body: Any = None, key: str | None = None) -> Any:
        return tenant.http.post(address, json=body, headers={"Idempotency-Key": key or uuid4().hex})

    cancelled = post("/repair", order).json()["id"]
    post(f"/repair/{cancelled}/cancel").raise_for_status()
    fill_up(2)
    first = post("/repair", order, "first")
    assert first.status_code == 202
    assert post(f"/repair/{cancelled}/retry").status_code == 202
    before = kept(tenant)

    preflight = order | {"validate_only": True}
    for address, body in (("/repair", order), ("/repair", preflight), (f"/repair/{cancelled}/retry", None)):
        refused = post(address, body)
        assert problem(refused, 503, "queue-full")["limit"] == MAX_QUEUE_DEPTH
        assert int(refused.headers["retry-after"]) > 0
    assert kept(tenant) == before, "a refusal leaves nothing behind"
    again = post("/repair", order, "first")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"]), "what was taken is answered as before"

    tenant.claim(first.json()["id"])
    time.sleep(COUNTED_AGAIN)
    assert post("/repair", order).status_code == 202
    problem(post("/repair", order), 503, "queue-full")
