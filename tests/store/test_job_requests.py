"""What tenants ask of jobs: create, cancel in every state, retry, and the queued limit."""

from datetime import timedelta
from threading import Barrier, Thread
from uuid import uuid4

import pytest

from store import files, jobs
from store.database import transaction
from store.errors import NoSuchFile, NotRetryable, QueueFull, StaleFence

PROBLEM = {"type": "/problems/x", "title": "x", "detail": "x"}


def cancel(factory, tenant_id, job_id):
    with transaction(factory) as session:
        return jobs.request_cancel(session, tenant_id=tenant_id, job_id=job_id)


def test_a_new_job_is_queued_with_its_deadline_from_now(make_job, event_types):
    job = make_job(deadline=timedelta(hours=2), labels={"team": "a"})
    assert (job.state, job.attempt, job.labels) == ("queued", 0, {"team": "a"})
    assert job.deadline_at - job.created_at == timedelta(hours=2)
    assert job.expires_at is None
    assert event_types(job.id) == ["state:queued"]


def test_files_live_as_long_as_the_results(factory, tenant_id, make_file, make_job):
    clean = make_file("clean", retention=timedelta(hours=1))
    job = make_job(clean_file_id=clean, deadline=timedelta(days=1), retention=timedelta(days=9))
    with transaction(factory) as session:
        file = files.get_file(session, tenant_id=tenant_id, file_id=clean)
    assert file.expires_at == job.created_at + timedelta(days=10)


def test_a_file_of_a_neighbour_is_no_file(make_file, make_job, other_tenant_id):
    theirs = make_file("clean", owner=other_tenant_id)
    with pytest.raises(NoSuchFile, match="clean"):
        make_job(clean_file_id=theirs)


def test_a_file_of_the_wrong_kind_is_named_by_its_role(make_file, make_job):
    with pytest.raises(NoSuchFile) as caught:
        make_job(triggered_file_id=make_file("clean"))
    assert caught.value.role == "triggered"


def test_the_models_of_an_analysis_have_their_own_names(make_file, make_job):
    with pytest.raises(NoSuchFile) as first:
        make_job(kind="analysis", suspect_file_id=make_file("clean"), second_file_id=make_file("model"))
    with pytest.raises(NoSuchFile) as second:
        make_job(kind="analysis", second_file_id=make_file("clean"))
    assert (first.value.role, second.value.role) == ("regular", "robust")


def test_the_queued_limit_counts_jobs_of_every_kind(make_job):
    make_job(max_queued=2)
    make_job(kind="analysis", max_queued=2)
    for kind in ("repair", "analysis", "diagnosis"):
        with pytest.raises(QueueFull):
            make_job(kind=kind, max_queued=2)


def test_a_deleted_file_is_no_file(factory, tenant_id, make_file, make_job):
    suspect = make_file("model")
    with transaction(factory) as session:
        assert files.delete_file(session, tenant_id=tenant_id, file_id=suspect)
    with pytest.raises(NoSuchFile, match="suspect"):
        make_job(suspect_file_id=suspect)


def test_the_queued_limit_counts_only_the_tenants_queued_jobs(make_job, claim, other_tenant_id):
    first = make_job(max_queued=2)
    make_job(max_queued=2)
    make_job(max_queued=2, owner=other_tenant_id)
    with pytest.raises(QueueFull) as caught:
        make_job(max_queued=2)
    assert caught.value.limit == 2
    claim(first.id)  # leaves the queue
    assert make_job(max_queued=2).state == "queued"


def test_the_queued_limit_holds_against_requests_at_the_same_time(make_file, make_job):
    suspect, clean = make_file("model"), make_file("clean")
    barrier, outcomes = Barrier(8), []

    def request():
        barrier.wait()
        try:
            outcomes.append(make_job(suspect_file_id=suspect, clean_file_id=clean, max_queued=3).state)
        except QueueFull:
            outcomes.append("full")

    threads = [Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["full"] * 5 + ["queued"] * 3


def test_cancelling_a_queued_job_ends_it_at_once(factory, tenant_id, make_job, claim, event_types):
    job = cancel(factory, tenant_id, make_job().id)
    assert job.state == "cancelled"
    assert None not in (job.cancel_requested_at, job.finished_at, job.expires_at)
    assert claim(job.id) is None
    assert event_types(job.id) == ["state:queued", "cancelled"]


def test_cancelling_a_running_job_waits_for_its_worker(factory, tenant_id, running_job, event_types):
    assert cancel(factory, tenant_id, running_job.id).state == "cancelling"
    assert cancel(factory, tenant_id, running_job.id).state == "cancelling"  # asking twice is asking once
    with transaction(factory) as session:
        assert jobs.renew(session, job_id=running_job.id, attempt=1, lease_seconds=9).cancel_requested
        assert jobs.mark_cancelled(session, job_id=running_job.id, attempt=1).state == "cancelled"
    assert event_types(running_job.id) == ["state:queued", "state:running", "state:cancelling", "cancelled"]


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_a_job_that_was_to_be_cancelled_ends_as_cancelled(factory, tenant_id, running_job, ending):
    cancel(factory, tenant_id, running_job.id)
    artifact = jobs.NewArtifact(name="report.html", path="p", bytes=1, sha256="s", media_type="text/html")
    with transaction(factory) as session:
        if ending == "succeeded":
            job = jobs.finish(session, job_id=running_job.id, attempt=1, result={"t": 0.3}, artifacts=[artifact])
        else:
            job = jobs.fail(session, job_id=running_job.id, attempt=1, problem=PROBLEM)
    assert (job.state, job.result, job.problem) == ("cancelled", None, None)
    with transaction(factory) as session:
        assert jobs.artifacts(session, tenant_id=tenant_id, job_id=job.id) == []


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_cancelling_an_ended_job_changes_nothing(factory, tenant_id, running_job, state, see, event_types):
    end_as(factory, tenant_id, running_job.id, state)
    before, events = see(running_job.id), event_types(running_job.id)
    after = cancel(factory, tenant_id, running_job.id)
    assert (after.state, after.finished_at) == (state, before.finished_at)
    assert event_types(running_job.id) == events


def test_a_worker_cannot_cancel_what_nobody_cancelled(factory, running_job, see):
    with pytest.raises(StaleFence), transaction(factory) as session:
        jobs.mark_cancelled(session, job_id=running_job.id, attempt=1)
    assert see(running_job.id).state == "running"


def test_a_neighbour_cannot_cancel_or_retry(factory, other_tenant_id, running_job, see):
    assert cancel(factory, other_tenant_id, running_job.id) is None
    with transaction(factory) as session:
        assert jobs.retry(session, tenant_id=other_tenant_id, job_id=running_job.id, max_queued=9) is None
        assert jobs.retry(session, tenant_id=other_tenant_id, job_id=uuid4(), max_queued=9) is None
    assert see(running_job.id).state == "running"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_retry_is_a_new_job_with_the_same_request(factory, tenant_id, running_job, state):
    end_as(factory, tenant_id, running_job.id, state)
    with transaction(factory) as session:
        new = jobs.retry(session, tenant_id=tenant_id, job_id=running_job.id, max_queued=9)
    assert new.id != running_job.id
    assert (new.state, new.attempt, new.retried_from) == ("queued", 0, running_job.id)
    for name in ("request", "labels", "seed", "suspect_file_id", "clean_file_id", "retention"):
        assert getattr(new, name) == getattr(running_job, name)
    assert new.deadline_at - new.created_at == running_job.deadline_at - running_job.created_at


def test_a_retried_analysis_is_an_analysis(factory, tenant_id, running_analysis):
    end_as(factory, tenant_id, running_analysis.id, "failed")
    with transaction(factory) as session:
        new = jobs.retry(session, tenant_id=tenant_id, job_id=running_analysis.id, kind="analysis", max_queued=9)
    assert (new.kind, new.second_file_id) == ("analysis", running_analysis.second_file_id)


@pytest.mark.parametrize("state", ["running", "succeeded"])
def test_a_job_that_runs_or_succeeded_is_not_retried(factory, tenant_id, running_job, state):
    if state == "succeeded":
        end_as(factory, tenant_id, running_job.id, state)
    with pytest.raises(NotRetryable, match=state), transaction(factory) as session:
        jobs.retry(session, tenant_id=tenant_id, job_id=running_job.id, max_queued=9)


def end_as(factory, tenant_id, job_id, state):
    if state == "cancelled":
        cancel(factory, tenant_id, job_id)
    with transaction(factory) as session:
        if state == "succeeded":
            jobs.finish(session, job_id=job_id, attempt=1, result={"t": 0.3}, artifacts=[])
        elif state == "failed":
            jobs.fail(session, job_id=job_id, attempt=1, problem=PROBLEM)
        else:
            jobs.mark_cancelled(session, job_id=job_id, attempt=1)
