"""The asynchronous client: the same answers, without holding up the loop."""

import json
import threading
import time

import anyio
import pytest

from client import AsyncClient, JobFailed, JobSettings, NotFound

pytestmark = pytest.mark.anyio
TIME = "2026-11-22T10:00:00Z"
EVENTS = ("state", "progress", "failed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def job(state: str) -> dict[str, object]:
    return {
        "id": "j1",
        "state": state,
        "labels": {},
        "created_at": TIME,
        "problem": {"title": "No", "detail": "Because."},
    }


def answer(handler, seen, n, send) -> None:
    if seen.path.endswith("/events"):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for number, kind in enumerate(EVENTS):
            handler.wfile.write(f"id: {number + 1}\nevent: {kind}\ndata: {{}}\n\n".encode())
    else:
        send(handler, 200, json.dumps(job("failed")).encode(), Content_Type="application/json")


@pytest.fixture
def service(server, send):
    server.answer = lambda handler, seen, n: answer(handler, seen, n, send)
    return server


async def test_events_are_iterated_and_a_failure_is_raised(service) -> None:
    async with AsyncClient(service.url, "k") as client:
        repair = await client.job("j1")
        assert [event.type async for event in repair.events()] == list(EVENTS)
        heard: list[str] = []
        with pytest.raises(JobFailed):
            await repair.wait(lambda event: heard.append(event.type))
    assert heard == list(EVENTS)


async def test_a_diagnosis_that_fails_is_raised_too(service) -> None:
    async with AsyncClient(service.url, "k") as client:
        with pytest.raises(JobFailed):
            await client.diagnose("m", "c", JobSettings())


async def test_calls_overlap_and_the_loop_goes_on(server, send) -> None:
    together = threading.Barrier(3)

    def wait_for_the_others(handler, seen, n):
        together.wait(30)
        send(handler, 200, json.dumps(job("queued")).encode(), Content_Type="application/json")

    server.answer = wait_for_the_others
    async with AsyncClient(server.url, "k") as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.job, "j1")


async def test_a_refusal_is_the_same_error(server, send) -> None:
    body = json.dumps({"type": "/problems/job-not-found", "title": "No", "status": 404, "detail": "x"}).encode()
    server.answer = lambda handler, seen, n: send(handler, 404, body, Content_Type="application/problem+json")
    async with AsyncClient(server.url, "k") as client:
        with pytest.raises(NotFound):
            await client.job("j1")


async def test_a_cancelled_call_is_left_at_once(server, send) -> None:
    over = threading.Event()

    def never(handler, seen, n):
        over.wait(60)
        send(handler, 200, b"{}")

    server.answer = never
    async with AsyncClient(server.url, "k", attempts=1) as client:
        began = time.monotonic()
        with anyio.move_on_after(0.2) as scope:
            await client.job("j1")
        assert scope.cancelled_caught
        assert not over.is_set(), f"it was left after {time.monotonic() - began:.1f} s, before an answer"
    over.set()
