"""A tenant's limits where jobs are claimed: exact among many workers, and nobody else waits for them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from store import jobs, quotas
from store.database import SessionFactory, transaction
from store.quotas import Limits
from store.tables import Job
from tests.store.conftest import MakeJob

TWO = Limits(running_jobs=2)


@pytest.fixture
def claim_within(factory: SessionFactory) -> Callable[..., Job | None]:
    def claim(job_id: UUID, limits: Limits = TWO) -> Job | None:
        with transaction(factory) as session:
            return jobs.claim(session, job_id=job_id, worker="w", lease_seconds=60, max_attempts=3, limits=limits)

    return claim


@pytest.fixture
def free(factory: SessionFactory, tenant_id: UUID) -> Callable[[], list[UUID]]:
    """The tenant's jobs that were held back and may start now."""

    def look() -> list[UUID]:
        with transaction(factory) as session:
            return list(quotas.may_start_now(session, tenant_id=tenant_id, default=TWO))

    return look


@pytest.fixture
def seconds(factory: SessionFactory, tenant_id: UUID) -> Callable[[], float]:
    def look() -> float:
        with transaction(factory) as session:
            return quotas.compute_seconds(session, tenant_id)

    return look


@pytest.fixture
def spans(factory: SessionFactory) -> Callable[[str], None]:
    def change(assignments: str) -> None:
        with transaction(factory) as session:
            session.execute(text(f"UPDATE compute_spans SET {assignments}"))

    return change


def test_many_workers_start_as_many_jobs_as_the_tenant_may_run(
    make_job: MakeJob, claim_within: Callable[..., Job | None], see: Callable[[UUID], Job]
) -> None:
    waiting = [make_job().id for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        claimed = [job for job in pool.map(claim_within, waiting) if job is not None]
    assert len(claimed) == 2
    assert sorted(see(job_id).state for job_id in waiting) == ["queued"] * 10 + ["running"] * 2


def test_a_limited_tenant_keeps_nobody_else_waiting(
    make_job: MakeJob, other_tenant_id: UUID, claim_within: Callable[..., Job | None]
) -> None:
    assert [bool(claim_within(make_job().id)) for _ in range(3)] == [True, True, False]
    assert claim_within(make_job(owner=other_tenant_id).id)


def test_its_own_limit_stands_before_the_default(
    factory: SessionFactory, make_job: MakeJob, claim_within: Callable[..., Job | None], tenant_id: UUID
) -> None:
    with transaction(factory) as session:
        session.execute(text("UPDATE tenants SET max_running_jobs = 1 WHERE id = :id"), {"id": tenant_id})
    assert [bool(claim_within(make_job().id)) for _ in range(2)] == [True, False]


def test_the_end_of_a_job_makes_room_for_the_oldest_that_was_held_back(
    factory: SessionFactory, make_job: MakeJob, claim_within: Callable[..., Job | None], free: Callable[[], list[UUID]]
) -> None:
    running, _, held_back, later, _untried = [make_job().id for _ in range(5)]
    assert claim_within(running)
    assert claim_within(_)
    assert claim_within(later) is claim_within(held_back) is None
    assert free() == []
    with transaction(factory) as session:
        jobs.finish(session, job_id=running, attempt=1, result={}, artifacts=[])
    assert free() == [held_back]
    assert claim_within(held_back)
    assert free() == []


def test_a_lost_job_takes_its_own_place(
    make_job: MakeJob, claim_within: Callable[..., Job | None], let_pass: Callable[[UUID, str], None]
) -> None:
    first, second = make_job().id, make_job().id
    assert claim_within(first)
    assert claim_within(second)
    let_pass(first, "lease_until")
    again = claim_within(first)
    assert again is not None
    assert again.attempt == 2


def test_the_sweep_leaves_a_job_alone_that_was_just_held_back(
    factory: SessionFactory,
    make_job: MakeJob,
    claim_within: Callable[..., Job | None],
    let_pass: Callable[[UUID, str], None],
) -> None:
    job_id = make_job().id

    def due() -> list[UUID]:
        with transaction(factory) as session:
            return jobs.due_jobs(session, older_than_seconds=0)

    assert due() == [job_id]
    assert claim_within(job_id, Limits(running_jobs=0)) is None
    assert due() == []
    let_pass(job_id, "held_back_at")
    assert due() == [job_id]


def test_a_tenant_that_has_computed_enough_starts_nothing(
    make_job: MakeJob, claim_within: Callable[..., Job | None], spans: Callable[[str], None]
) -> None:
    hour = Limits(compute_seconds=3600)
    assert claim_within(make_job().id, hour)
    spans("started_at = now() - interval '61 minutes'")
    waiting = make_job().id
    assert claim_within(waiting, hour) is None
    spans("started_at = now() - interval '25 hours', until = now() - interval '24 hours'")
    assert claim_within(waiting, hour), "what is a day ago does not count any more"


def test_seconds_count_from_the_claim_to_the_end(
    factory: SessionFactory, running_job: Job, seconds: Callable[[], float], spans: Callable[[str], None]
) -> None:
    spans("started_at = now() - interval '100 seconds'")
    assert seconds() >= 100, "a running job counts up to now"
    with transaction(factory) as session:
        jobs.renew(session, job_id=running_job.id, attempt=1, lease_seconds=600)
        jobs.finish(session, job_id=running_job.id, attempt=1, result={}, artifacts=[])
    ended = seconds()
    assert seconds() == ended, "an ended one stands still"


def test_an_attempt_that_vanished_counts_until_its_lease_ended(
    factory: SessionFactory,
    running_job: Job,
    claim: Any,
    let_pass: Callable[[UUID, str], None],
    seconds: Callable[[], float],
    spans: Callable[[str], None],
) -> None:
    spans("started_at = now() - interval '300 seconds', until = now() - interval '200 seconds'")
    let_pass(running_job.id, "lease_until")
    assert round(seconds()) == 100
    assert claim(running_job.id).attempt == 2
    with transaction(factory) as session:
        jobs.release(session, job_id=running_job.id, attempt=2)
    ended = seconds()
    assert ended >= 100
    assert seconds() == ended, "one that was given back stands still"
