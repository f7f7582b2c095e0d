"""What happens to a job when it is cancelled, when its child or its worker dies, and when time runs out."""

import os
import signal
from datetime import timedelta
from typing import Any

ENDLESS = 10**6  # steps


def test_a_cancelled_job_stops_at_once_and_leaves_no_files(bench: Any) -> None:
    worker = bench.start_worker()
    job_id = bench.post(steps=ENDLESS)
    child = bench.wait_for_work(worker, job_id)
    bench.cancel(job_id)
    job = bench.wait_for_end(job_id)
    assert (job.state, job.attempt) == ("cancelled", 1)
    assert not child.is_running()
    assert bench.files_of(job_id) == set()
    assert bench.wait_for_end(bench.post()).state == "succeeded", "the worker goes on with the next job"


def test_a_killed_child_costs_one_attempt(bench: Any) -> None:
    worker = bench.start_worker()
    job_id = bench.post(steps=300)
    bench.wait_for_work(worker, job_id).kill()
    job = bench.wait_for_end(job_id)
    assert (job.state, job.attempt) == ("succeeded", 2)
    [warning] = [event.data for event in bench.events(job_id) if event.type == "warning" and "attempt" in event.data]
    assert warning["attempt"] == 1
    assert "killed" in warning["reason"]
    assert bench.files_of(job_id) == {"2"}


def test_a_job_that_kills_its_child_each_time_fails_with_the_reason(bench: Any) -> None:
    worker = bench.start_worker()
    job_id = bench.post(steps=ENDLESS)
    for attempt in (1, 2, 3):
        bench.wait_for_work(worker, job_id, attempt=attempt).kill()
    job = bench.wait_for_end(job_id)
    assert (job.state, job.attempt) == ("failed", 3)
    assert job.problem["type"] == "/problems/attempts-exhausted"
    assert "killed" in job.problem["detail"]


def test_another_worker_finishes_what_a_killed_worker_began(bench: Any) -> None:
    first = bench.start_worker()
    job_id = bench.post(steps=ENDLESS)
    child = bench.wait_for_work(first, job_id)
    first.kill_9()
    bench.wait_for(lambda: not child.is_running(), "the end of the orphaned child")
    second = bench.start_worker()
    bench.wait_for_work(second, job_id, attempt=2)
    bench.cancel(job_id)
    assert bench.wait_for_end(job_id).state == "cancelled"


def test_a_worker_that_slept_through_its_lease_writes_nothing_more(bench: Any) -> None:
    sleeper = bench.start_worker()
    job_id = bench.post(steps=ENDLESS)
    bench.wait_for_work(sleeper, job_id)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    bench.wait_for_work(bench.start_worker(), job_id, attempt=2)
    os.kill(sleeper.process.pid, signal.SIGCONT)
    bench.wait_for(lambda: not sleeper.job_children(), "the end of the stale child")
    job = bench.job(job_id)
    assert (job.state, job.attempt) == ("running", 2)
    bench.cancel(job_id)
    bench.wait_for_end(job_id)


def test_a_worker_told_to_leave_hands_its_job_on_uncounted(bench: Any) -> None:
    leaving = bench.start_worker()
    job_id = bench.post(steps=ENDLESS)
    child = bench.wait_for_work(leaving, job_id)
    leaving.process.terminate()
    assert leaving.process.wait(30) == 0
    assert not child.is_running()
    job = bench.job(job_id)
    assert (job.state, job.attempt, job.releases) == ("queued", 1, 1)
    bench.wait_for_work(bench.start_worker(), job_id, attempt=2)
    bench.cancel(job_id)
    bench.wait_for_end(job_id)


def test_a_job_ends_at_its_deadline(bench: Any) -> None:
    worker = bench.start_worker()
    bench.wait_for(lambda: "ready." in worker.log.read_text(), "the worker")
    job = bench.wait_for_end(bench.post(steps=ENDLESS, deadline=timedelta(seconds=5)))
    assert job.state == "failed"
    assert job.problem["type"] == "/problems/deadline-exceeded"
    assert job.started_at is not None
    assert worker.job_children() == []
