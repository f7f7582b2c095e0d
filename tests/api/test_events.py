"""The live stream: whole, in order, resumable, ended, and without a database connection held."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, connect_sse

from store import jobs
from store.database import transaction
from store.tables import Job
from tests.api.conftest import Tenant, problem
from tests.api.results import point

READ_SECONDS = 30


@contextmanager
def stream(tenant: Tenant, job_id: str, last: str | None = None) -> Iterator[Iterator[ServerSentEvent]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with connect_sse(tenant.http, "GET", f"/repair/{job_id}/events", headers=headers, timeout=READ_SECONDS) as source:
        assert source.response.status_code == 200
        yield (event for event in source.iter_sse() if event.data)


def read_all(tenant: Tenant, job_id: str, last: str | None = None) -> list[ServerSentEvent]:
    with stream(tenant, job_id, last) as events:
        return list(events)


def progress(tenant: Tenant, job: Job, fraction: float) -> None:
    body = {"stage": "fitting_path", "fraction": fraction, "stage_fraction": fraction, "numbers": {"step": 3}}
    with transaction(tenant.database) as session:
        jobs.record_progress(session, job_id=job.id, attempt=job.attempt, progress=body, event="progress")


@pytest.fixture
def running(tenant: Tenant, order: dict[str, Any]) -> Job:
    return tenant.claim(tenant.http.post("/repair", json=order).json()["id"])


def test_the_whole_history_comes_first_and_a_terminal_event_last(tenant: Tenant, finished: str) -> None:
    events = read_all(tenant, finished)
    assert (events[0].event, events[0].json()["state"]) == ("state", "queued")
    assert [event.event for event in events].count("point") == 3
    assert events[-1].event == "succeeded"
    assert [event.event for event in events].count("succeeded") == 1
    ids = [int(event.id) for event in events]
    assert ids == sorted(set(ids))
    assert all(event.json()["at"] for event in events)


def test_a_reader_goes_on_where_it_was(tenant: Tenant, finished: str) -> None:
    everything = read_all(tenant, finished)
    for number, event in enumerate(everything[:-1]):
        rest = read_all(tenant, finished, last=event.id)
        assert [item.id for item in rest] == [item.id for item in everything[number + 1 :]]


def test_a_reader_that_has_everything_gets_the_terminal_event_again(tenant: Tenant, finished: str) -> None:
    last = read_all(tenant, finished)[-1]
    assert [(event.id, event.event) for event in read_all(tenant, finished, last=last.id)] == [(last.id, "succeeded")]


def test_a_reader_with_an_id_that_is_none_gets_the_whole_history(tenant: Tenant, finished: str) -> None:
    everything = [event.id for event in read_all(tenant, finished)]
    assert [event.id for event in read_all(tenant, finished, last=str(2**62))] == everything


def test_events_arrive_while_the_job_runs(tenant: Tenant, running: Job) -> None:
    with stream(tenant, str(running.id)) as events:
        for fraction in (0.1, 0.2, 0.3):
            progress(tenant, running, fraction)
            event = next(event for event in events if event.event == "progress")
            assert event.json()["fraction"] == fraction
        tenant.finish(running, [])
        assert [event.event for event in events][-1] == "succeeded"


def test_nothing_is_lost_between_many_short_connections(tenant: Tenant, running: Job) -> None:
    """A reader whose line is cut again and again sees each event once, while the job writes."""

    def work() -> None:
        for number in range(60):
            progress(tenant, running, number / 60)
            time.sleep(0.01)
        with transaction(tenant.database) as session:
            points = [point(number / 10) for number in range(10)]
            jobs.record_points(session, job_id=running.id, attempt=running.attempt, points=points)
        tenant.finish(running, [])

    writer = threading.Thread(target=work)
    writer.start()
    seen: list[ServerSentEvent] = []
    while not seen or seen[-1].event != "succeeded":
        with stream(tenant, str(running.id), last=seen[-1].id if seen else None) as events:
            for _, event in zip(range(7), events, strict=False):
                seen.append(event)
    writer.join()
    assert [event.id for event in seen] == [event.id for event in read_all(tenant, str(running.id))]
    assert [event.json()["fraction"] for event in seen if event.event == "progress"] == [n / 60 for n in range(60)]


def test_a_cancelled_job_ends_its_stream(tenant: Tenant, running: Job) -> None:
    tenant.http.post(f"/repair/{running.id}/cancel").raise_for_status()
    with transaction(tenant.database) as session:
        jobs.mark_cancelled(session, job_id=running.id, attempt=running.attempt)
    assert [event.event for event in read_all(tenant, str(running.id))][-1] == "cancelled"


def test_idle_streams_hold_no_database_connection(tenant: Tenant, running: Job) -> None:
    """More streams than the pool has connections leave other requests unhindered."""
    sources: list[Any] = []
    try:
        for _ in range(30):
            source = connect_sse(tenant.http, "GET", f"/repair/{running.id}/events", timeout=READ_SECONDS)
            opened: EventSource = source.__enter__()
            sources.append(source)
            assert opened.response.status_code == 200
        assert tenant.http.get(f"/repair/{running.id}").status_code == 200
    finally:
        for source in sources:
            source.__exit__(None, None, None)


def test_a_stream_tells_proxies_and_clients_how_to_treat_it(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "retry: 1000" in answer.text


@pytest.mark.parametrize("last", ["x", "-1", "1e3"])
def test_a_last_event_id_must_be_a_number(tenant: Tenant, finished: str, last: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/events", headers={"Last-Event-ID": last})
    problem(answer, 422, "invalid-request")


def test_a_missing_job_is_a_404_before_the_stream_begins(tenant: Tenant) -> None:
    problem(tenant.http.get(f"/repair/{uuid4()}/events"), 404, "job-not-found")


def test_a_stream_needs_a_key(tenant: Tenant, finished: str) -> None:
    problem(httpx.get(f"{tenant.http.base_url}/repair/{finished}/events"), 401, "key-missing")
