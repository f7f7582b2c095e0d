"""The sweep: lost messages are sent again, lost jobs go on or end with a reason, expired ones are removed."""

from threading import Thread

import pytest
from sqlalchemy import func, select

from store import jobs
from store.database import transaction, try_lock
from store.tables import AnalysisPoint, Artifact, CurvePoint, JobEvent, JobLabel
from tests.store.conftest import analysis_point, curve_point

HOUR = 3600


@pytest.fixture
def due(factory):
    def list_due(older_than_seconds=HOUR):
        with transaction(factory) as session:
            return jobs.due_jobs(session, older_than_seconds=older_than_seconds)

    return list_due


@pytest.fixture
def settle(factory):
    def settle_now():
        with transaction(factory) as session:
            return jobs.settle_overdue(session, max_attempts=3)

    return settle_now


def test_a_queued_job_is_due_until_sent_and_again_when_that_was_long_ago(factory, make_job, due, let_pass):
    job_id = make_job().id
    assert due() == [job_id]
    with transaction(factory) as session:
        jobs.mark_enqueued(session, job_ids=[job_id])
    assert due() == []
    let_pass(job_id, "enqueued_at")
    assert due(older_than_seconds=30) == [job_id]
    assert due() == []


@pytest.mark.parametrize("state", ["running", "cancelling"])
def test_a_held_job_is_due_only_when_its_lease_has_run_out(factory, tenant_id, running_job, due, let_pass, state):
    if state == "cancelling":
        with transaction(factory) as session:
            jobs.request_cancel(session, tenant_id=tenant_id, job_id=running_job.id)
    assert due() == []
    let_pass(running_job.id, "lease_until")
    assert due() == [running_job.id]


def test_lost_jobs_come_before_waiting_ones_and_the_limit_holds(factory, make_job, running_job, let_pass, due):
    waiting = [make_job().id, make_job().id]
    let_pass(running_job.id, "lease_until")
    assert due() == [running_job.id, *waiting]
    with transaction(factory) as session:
        assert jobs.due_jobs(session, older_than_seconds=HOUR, limit=2) == [running_job.id, waiting[0]]


def test_an_ended_job_is_never_due(factory, running_job, due, let_pass):
    with transaction(factory) as session:
        jobs.finish(session, job_id=running_job.id, attempt=1, result={}, artifacts=[])
    let_pass(running_job.id, "lease_until")
    assert due() == []


def test_healthy_jobs_are_left_alone(make_job, running_job, settle, let_pass, see):
    queued, lost = make_job(), running_job
    let_pass(lost.id, "lease_until")  # it has attempts left: a worker will claim it
    assert settle() == []
    assert (see(queued.id).state, see(lost.id).state) == ("queued", "running")


def test_a_running_job_past_its_deadline_is_its_workers_to_end(running_job, settle, let_pass, see):
    let_pass(running_job.id, "deadline_at")
    assert settle() == []
    assert see(running_job.id).state == "running"


def by_sweep(job_id, settle, claim):
    assert settle() == [job_id]
    assert settle() == []


def by_claim(job_id, settle, claim):
    assert claim(job_id) is None


ENDERS = pytest.mark.parametrize("ender", [by_sweep, by_claim])


@ENDERS
def test_a_cancelled_job_whose_worker_vanished_ends(
    factory, tenant_id, running_job, let_pass, see, settle, claim, ender, event_types
):
    with transaction(factory) as session:
        jobs.request_cancel(session, tenant_id=tenant_id, job_id=running_job.id)
    let_pass(running_job.id, "lease_until")
    ender(running_job.id, settle, claim)
    assert see(running_job.id).state == "cancelled"
    assert event_types(running_job.id)[-1] == "cancelled"


@ENDERS
def test_a_job_that_waited_past_its_deadline_fails(make_job, let_pass, see, settle, claim, ender):
    job_id = make_job().id
    let_pass(job_id, "deadline_at")
    ender(job_id, settle, claim)
    job = see(job_id)
    assert (job.state, job.problem["type"]) == ("failed", "/problems/deadline-exceeded")
    assert "still in the queue" in job.problem["detail"]


@ENDERS
def test_a_job_that_was_lost_past_its_deadline_fails(running_job, let_pass, see, settle, claim, ender):
    let_pass(running_job.id, "deadline_at")
    let_pass(running_job.id, "lease_until")
    ender(running_job.id, settle, claim)
    assert see(running_job.id).problem["type"] == "/problems/deadline-exceeded"


@ENDERS
def test_a_job_lost_in_its_last_attempt_fails_with_the_reason(
    make_job, let_pass, see, settle, claim, ender, event_types
):
    job_id = make_job().id
    for attempt in (1, 2, 3):
        assert claim(job_id).attempt == attempt
        let_pass(job_id, "lease_until")
    ender(job_id, settle, claim)
    job = see(job_id)
    assert (job.state, job.problem["type"], job.attempt) == ("failed", "/problems/attempts-exhausted", 3)
    assert event_types(job_id)[-1] == "failed"


def test_expired_jobs_go_with_all_that_hangs_on_them(factory, make_job, claim, let_pass, see):
    job = claim(make_job(labels={"a": "b"}).id)
    kept = make_job()
    artifact = jobs.NewArtifact(name="a", path="p", bytes=1, sha256="s", media_type="m")
    with transaction(factory) as session:
        jobs.record_points(session, job_id=job.id, attempt=1, points=[curve_point(0.5)])
        jobs.record_analysis_points(session, job_id=job.id, attempt=1, points=[analysis_point("robust", 0.5)])
        jobs.finish(session, job_id=job.id, attempt=1, result={}, artifacts=[artifact])
        assert jobs.expired_jobs(session) == []
        jobs.delete_job(session, job_id=job.id)  # not expired: stays
        jobs.delete_job(session, job_id=kept.id)
    assert see(job.id).state == "succeeded"
    let_pass(job.id, "expires_at")
    with transaction(factory) as session:
        assert jobs.expired_jobs(session) == [job.id]
        jobs.delete_job(session, job_id=job.id)
        for table in (JobEvent, CurvePoint, AnalysisPoint, Artifact, JobLabel):
            assert session.scalar(select(func.count()).select_from(table).where(table.job_id == job.id)) == 0
    assert see(kept.id).state == "queued"


def test_only_one_process_sweeps_at_a_time(factory):
    with transaction(factory) as first, transaction(factory) as second:
        assert try_lock(first, "sweep")
        assert not try_lock(second, "sweep")
        assert try_lock(second, "housekeeping")
        first.commit()
        assert try_lock(second, "sweep")


def test_two_sweeps_at_once_end_a_job_once(factory, make_job, let_pass, settle, event_types):
    job_id = make_job().id
    let_pass(job_id, "deadline_at")
    settled = []
    threads = [Thread(target=lambda: settled.extend(settle())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settled == [job_id]
    assert event_types(job_id) == ["state:queued", "failed"]
