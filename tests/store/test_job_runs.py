"""What workers write: one holder at a time, stale fences refused, endings all in one transaction."""

import multiprocessing
from collections import Counter
from threading import Barrier, Thread
from uuid import UUID

import pytest
from sqlalchemy import text

from store import jobs
from store.database import make_engine, session_factory, transaction
from store.errors import StaleFence
from tests.store.conftest import analysis_point, curve_point

PROBLEM = {"type": "/problems/x", "title": "x", "detail": "x"}
PROGRESS = {"stage": "sweeping", "fraction": 0.5, "stage_fraction": 0.1, "seconds_left": 9.0, "numbers": {"loss": 0.8}}
ARTIFACT = jobs.NewArtifact(name="report.html", path="jobs/x", bytes=1, sha256="s", media_type="text/html")


def claim_all(url: str, job_ids: list[UUID], worker: str, start) -> list[UUID]:
    engine = make_engine(url)
    factory = session_factory(engine)
    start.wait()
    won = []
    for job_id in job_ids:
        with transaction(factory) as session:
            if jobs.claim(session, job_id=job_id, worker=worker, lease_seconds=60, max_attempts=3):
                won.append(job_id)
    engine.dispose()
    return won


def claim_in_process(url, job_ids, worker, start, results):
    results.put(claim_all(url, job_ids, worker, start))


def test_each_queued_job_has_one_winner_among_processes(database_url, make_file, make_job):
    suspect, clean = make_file("model"), make_file("clean")
    ids = [make_job(suspect_file_id=suspect, clean_file_id=clean).id for _ in range(20)]
    context = multiprocessing.get_context("fork")  # a spawned child cannot import a test
    start, results = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=claim_in_process, args=(database_url, ids, f"w{i}", start, results)) for i in range(4)
    ]
    for process in processes:
        process.start()
    won = Counter(job_id for _ in processes for job_id in results.get(timeout=60))
    for process in processes:
        process.join()
    assert won == Counter(ids)


def test_each_lost_job_has_one_winner_among_threads(database_url, make_file, make_job, claim, let_pass, see):
    suspect, clean = make_file("model"), make_file("clean")
    ids = [make_job(suspect_file_id=suspect, clean_file_id=clean).id for _ in range(20)]
    for job_id in ids:
        claim(job_id)
        let_pass(job_id, "lease_until")
    won, start = [], Barrier(6)
    threads = [
        Thread(target=lambda i=i: won.extend(claim_all(database_url, ids, f"w{i}", start)))  # type: ignore[misc]
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(won) == Counter(ids)
    assert {see(job_id).attempt for job_id in ids} == {2}


def test_a_claim_counts_the_attempt_and_dates_the_start_once(claim, make_job, let_pass, event_types):
    first = claim(make_job().id)
    assert (first.state, first.stage, first.attempt, first.worker) == ("running", "validating", 1, "w")
    assert first.lease_until > first.started_at
    let_pass(first.id, "lease_until")
    second = claim(first.id)
    assert (second.attempt, second.started_at) == (2, first.started_at)
    assert event_types(first.id) == ["state:queued", "state:running", "state:running"]


def test_a_held_job_is_not_claimed(claim, running_job, see):
    assert claim(running_job.id) is None
    assert see(running_job.id).attempt == 1


WRITES = {
    "renew": lambda session, **fence: jobs.renew(session, **fence, lease_seconds=30),
    "progress": lambda session, **fence: jobs.record_progress(session, **fence, progress=PROGRESS, event="progress"),
    "warning": lambda session, **fence: jobs.record_warning(session, **fence, data={"text": "x"}),
    "points": lambda session, **fence: jobs.record_points(session, **fence, points=[curve_point(0.1)]),
    "analysis points": lambda session, **fence: jobs.record_analysis_points(
        session, **fence, points=[analysis_point("robust", 0.1)]
    ),
    "finish": lambda session, **fence: jobs.finish(session, **fence, result={"t": 0.1}, artifacts=[ARTIFACT]),
    "fail": lambda session, **fence: jobs.fail(session, **fence, problem=PROBLEM),
    "cancelled": lambda session, **fence: jobs.mark_cancelled(session, **fence),
    "release": lambda session, **fence: jobs.release(session, **fence),
    "lose": lambda session, **fence: jobs.lose_attempt(session, **fence, reason="It died.", max_attempts=3),
}


def everything(factory, job_id):
    """All that is stored about a job."""
    tables = ("jobs", "job_events", "curve_points", "analysis_points", "artifacts")
    with transaction(factory) as session:
        return [
            session.execute(
                text(f"SELECT * FROM {table} WHERE {'id' if table == 'jobs' else 'job_id'} = :id"), {"id": job_id}
            ).all()
            for table in tables
        ]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_worker_whose_job_went_to_another_writes_nothing(factory, claim, running_job, let_pass, write):
    let_pass(running_job.id, "lease_until")
    assert claim(running_job.id).attempt == 2
    before = everything(factory, running_job.id)
    with pytest.raises(StaleFence), transaction(factory) as session:
        write(session, job_id=running_job.id, attempt=1)
    assert everything(factory, running_job.id) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_nothing_is_written_after_the_end(factory, running_job, write):
    with transaction(factory) as session:
        jobs.finish(session, job_id=running_job.id, attempt=1, result={"t": 0.1}, artifacts=[ARTIFACT])
    before = everything(factory, running_job.id)
    with pytest.raises(StaleFence), transaction(factory) as session:
        write(session, job_id=running_job.id, attempt=1)
    assert everything(factory, running_job.id) == before


def test_a_late_heartbeat_keeps_a_job_that_nobody_took(factory, running_job, let_pass, claim):
    let_pass(running_job.id, "lease_until")
    with transaction(factory) as session:
        renewal = jobs.renew(session, job_id=running_job.id, attempt=1, lease_seconds=60)
    assert renewal == jobs.Renewal(cancel_requested=False, deadline_passed=False)
    assert claim(running_job.id) is None


def test_the_heartbeat_says_when_the_deadline_has_passed(factory, running_job, let_pass):
    let_pass(running_job.id, "deadline_at")
    with transaction(factory) as session:
        assert jobs.renew(session, job_id=running_job.id, attempt=1, lease_seconds=60).deadline_passed


def test_progress_is_stored_and_told_only_when_asked(factory, running_job, see, event_types):
    for event in ("stage", None, "progress"):
        with transaction(factory) as session:
            jobs.record_progress(session, job_id=running_job.id, attempt=1, progress=PROGRESS, event=event)
    job = see(running_job.id)
    assert (job.stage, job.progress) == ("sweeping", PROGRESS)
    assert event_types(job.id)[2:] == ["stage", "progress"]


def test_points_of_a_later_attempt_replace_those_at_the_same_t(factory, tenant_id, running_job, claim, let_pass):
    with transaction(factory) as session:
        jobs.record_points(session, job_id=running_job.id, attempt=1, points=[curve_point(0.2), curve_point(0.1)])
    let_pass(running_job.id, "lease_until")
    claim(running_job.id)
    with transaction(factory) as session:
        jobs.record_points(session, job_id=running_job.id, attempt=2, points=[curve_point(0.2, clean_accuracy=0.9)])
        curve = jobs.curve(session, tenant_id=tenant_id, job_id=running_job.id)
        events = jobs.events_after(session, tenant_id=tenant_id, job_id=running_job.id, after_id=0, limit=99)
    assert [(p.t, p.attempt, p.clean_accuracy) for p in curve] == [(0.1, 1, 0.5), (0.2, 2, 0.9)]
    assert [event.data["t"] for event in events if event.type == "point"] == [0.2, 0.1, 0.2]


def test_a_second_path_has_points_of_its_own(factory, tenant_id, running_job):
    with transaction(factory) as session:
        points = [curve_point(0.2), curve_point(0.2, path="unaligned", clean_accuracy=0.1)]
        jobs.record_points(session, job_id=running_job.id, attempt=1, points=points)
        curve = jobs.curve(session, tenant_id=tenant_id, job_id=running_job.id)
    assert [(p.path, p.t, p.clean_accuracy) for p in curve] == [("main", 0.2, 0.5), ("unaligned", 0.2, 0.1)]


def test_the_points_of_an_analysis_are_kept_and_told(factory, tenant_id, running_analysis):
    own = {"tenant_id": tenant_id, "job_id": running_analysis.id}
    points = [
        analysis_point("robust", 0.0),
        analysis_point("standard", 1.0),
        analysis_point("standard", 0.0, eigenvalue=3.5),
    ]
    with transaction(factory) as session:
        jobs.record_analysis_points(session, job_id=running_analysis.id, attempt=1, points=points)
        again = [analysis_point("standard", 1.0, robust_loss=2.0)]
        jobs.record_analysis_points(session, job_id=running_analysis.id, attempt=1, points=again)
        kept = jobs.analysis_points(session, **own)
        events = jobs.events_after(session, **own, after_id=0, limit=99)
    assert [(p.path, p.t, p.robust_loss, p.eigenvalue) for p in kept] == [
        ("standard", 0.0, 0.5, 3.5),
        ("standard", 1.0, 2.0, None),
        ("robust", 0.0, 0.5, None),
    ]
    told = [event.data for event in events if event.type == "point"]
    assert told == [point | {"attempt": 1} for point in [*points, *again]]


def test_an_analysis_has_the_stage_of_the_robust_path(factory, running_analysis, see):
    progress = PROGRESS | {"stage": "fitting_robust_path"}
    with transaction(factory) as session:
        jobs.record_progress(session, job_id=running_analysis.id, attempt=1, progress=progress, event="stage")
    assert see(running_analysis.id).stage == "fitting_robust_path"


def test_finishing_writes_result_artifacts_event_and_state_together(factory, tenant_id, running_job, see, event_types):
    with transaction(factory) as session:
        jobs.finish(session, job_id=running_job.id, attempt=1, result={"t": 0.3}, artifacts=[ARTIFACT])
    job = see(running_job.id)
    assert (job.state, job.result, job.lease_until) == ("succeeded", {"t": 0.3}, None)
    assert job.expires_at - job.finished_at >= job.retention
    assert event_types(job.id)[-1] == "succeeded"
    with transaction(factory) as session:
        assert jobs.artifact(session, tenant_id=tenant_id, job_id=job.id, name="report.html").sha256 == "s"


def test_a_crash_inside_finish_leaves_nothing(factory, running_job):
    before = everything(factory, running_job.id)
    with factory() as session:  # left without a commit, as by a crash
        jobs.finish(session, job_id=running_job.id, attempt=1, result={"t": 0.3}, artifacts=[ARTIFACT])
    assert everything(factory, running_job.id) == before


def test_failing_keeps_the_problem_for_job_and_stream(factory, tenant_id, running_job, see):
    with transaction(factory) as session:
        jobs.fail(session, job_id=running_job.id, attempt=1, problem=PROBLEM)
        last = jobs.events_after(session, tenant_id=tenant_id, job_id=running_job.id, after_id=0, limit=99)[-1]
    assert (see(running_job.id).state, see(running_job.id).problem) == ("failed", PROBLEM)
    assert (last.type, last.data["problem"]) == ("failed", PROBLEM)


def test_orderly_releases_do_not_use_up_attempts(factory, make_job, claim, see):
    job_id = make_job().id
    for attempt in range(1, 6):  # more than the three attempts it has
        assert claim(job_id).attempt == attempt
        with transaction(factory) as session:
            jobs.release(session, job_id=job_id, attempt=attempt)
        assert (see(job_id).state, see(job_id).lease_until, see(job_id).enqueued_at) == ("queued", None, None)
    assert claim(job_id) is not None


def test_lost_attempts_are_told_and_the_last_one_fails_the_job(factory, tenant_id, make_job, claim, see, event_types):
    job_id = make_job().id
    for attempt in (1, 2, 3):
        assert claim(job_id).attempt == attempt
        with transaction(factory) as session:
            jobs.lose_attempt(session, job_id=job_id, attempt=attempt, reason="The child was killed.", max_attempts=3)
    job = see(job_id)
    assert (job.state, job.problem["type"], job.problem["attempts"]) == ("failed", "/problems/attempts-exhausted", 3)
    assert "The child was killed." in job.problem["detail"]
    lost = ["state:running", "warning"]
    assert event_types(job_id) == ["state:queued", *lost, "state:queued", *lost, "state:queued", *lost, "failed"]


@pytest.mark.parametrize("write", [WRITES["release"], WRITES["lose"]], ids=["release", "lose"])
def test_giving_back_a_job_that_was_to_be_cancelled_cancels_it(factory, tenant_id, running_job, write, see):
    with transaction(factory) as session:
        jobs.request_cancel(session, tenant_id=tenant_id, job_id=running_job.id)
        write(session, job_id=running_job.id, attempt=1)
    assert see(running_job.id).state == "cancelled"
