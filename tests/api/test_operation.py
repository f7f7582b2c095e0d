"""How the server starts, stops, and bears the loss of its parts. Each test runs its own server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from httpx_sse import connect_sse
from tenacity import retry, stop_after_delay, wait_fixed

from intake.launcher import probe
from intake.limits import Limits
from store.settings import Settings
from tests.api.conftest import Server, Tenant, problem, serving


@pytest.fixture(scope="module")
def own_server(api_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose inspector may be hurt."""
    with serving(api_settings, tmp_path_factory.mktemp("own")) as running:
        running.wait_until_ready()
        yield running


@retry(stop=stop_after_delay(280), wait=wait_fixed(0.2))
def wait_for_inspector(server: Server, *, other_than: int = 0) -> psutil.Process:
    inspector = server.inspector()
    assert inspector is not None
    assert inspector.pid != other_than
    return inspector


def ask(server: Server, tenant: Tenant, order: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {tenant.key}"}
    body = order | {"validate_only": True}
    return httpx.post(f"{server.url}/repair", json=body, headers=headers, timeout=60)


def test_an_inspector_that_dies_is_replaced(own_server: Server, tenant: Tenant, order: dict[str, Any]) -> None:
    inspector = wait_for_inspector(own_server)
    inspector.kill()
    wait_for_inspector(own_server, other_than=inspector.pid)
    own_server.wait_until_ready()
    assert ask(own_server, tenant, order).status_code == 200


def test_an_inspector_that_hangs_is_a_503_and_is_replaced(
    own_server: Server, tenant: Tenant, order: dict[str, Any]
) -> None:
    inspector = wait_for_inspector(own_server)
    inspector.suspend()
    answer = ask(own_server, tenant, order | {"preprocessing": {"size": [40, 40]}})  # what was asked before is known
    problem(answer, 503, "inspector-not-ready")
    assert int(answer.headers["retry-after"]) > 0
    assert httpx.get(f"{own_server.url}/healthz").json() == {"status": "ok"}
    problem(httpx.get(f"{own_server.url}/readyz"), 503, "not-ready")
    wait_for_inspector(own_server, other_than=inspector.pid)
    own_server.wait_until_ready()
    assert ask(own_server, tenant, order).status_code == 200


def test_a_stopped_server_ends_open_streams_and_leaves_no_process(
    api_settings: Settings, tmp_path: Path, tenant: Tenant, order: dict[str, Any]
) -> None:
    job = tenant.http.post("/repair", json=order).json()["id"]
    headers = {"Authorization": f"Bearer {tenant.key}"}
    with serving(api_settings, tmp_path) as running:
        running.wait_until_ready("/healthz")
        inspector = wait_for_inspector(running)
        address = f"{running.url}/repair/{job}/events"
        with httpx.Client(headers=headers, timeout=60) as http, connect_sse(http, "GET", address) as source:
            events = source.iter_sse()
            assert next(event for event in events if event.data).event == "state"
            running.process.terminate()
            assert list(events) == []  # ended in order: no broken chunk
        running.process.wait(60)
        assert not psutil.pid_exists(inspector.pid)


def test_a_server_without_its_redis_is_not_ready_but_takes_jobs(
    api_settings: Settings, tmp_path: Path, tenant: Tenant, order: dict[str, Any]
) -> None:
    """Redis is a hint: the job is in the database, and the workers' sweep finds it there."""
    job = tenant.http.post("/repair", json=order).json()["id"]
    tenant.http.post(f"/repair/{job}/cancel").raise_for_status()
    headers = {"Authorization": f"Bearer {tenant.key}"}
    with serving(api_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), tmp_path) as running:
        running.wait_until_ready("/healthz")
        checks = problem(httpx.get(f"{running.url}/readyz", timeout=60), 503, "not-ready")["checks"]
        assert (checks["database"], checks["storage"]) == ("ok", "ok")
        assert checks["queue"] != "ok"
        answer = httpx.post(f"{running.url}/repair/{job}/retry", headers=headers, timeout=60)
        assert answer.status_code == 202, answer.text
    assert tenant.jobs() == 2


def test_a_server_without_its_database_says_so(
    api_settings: Settings, tmp_path: Path, tenant: Tenant, order: dict[str, Any]
) -> None:
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    with serving(api_settings.model_copy(update={"database_url": nowhere}), tmp_path) as running:
        running.wait_until_ready("/healthz")
        checks = problem(httpx.get(f"{running.url}/readyz", timeout=60), 503, "not-ready")["checks"]
        assert (checks["queue"], checks["storage"]) == ("ok", "ok")
        assert checks["database"] != "ok"
        answer = ask(running, tenant, order)
        problem(answer, 503, "database-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "127.0.0.1:1" not in answer.text


def test_readyz_says_what_shuts_the_readers_of_uploads_in(own_server: Server) -> None:
    own_server.wait_until_ready()
    said = httpx.get(f"{own_server.url}/readyz").json()["sandbox"]
    kernel = probe(Limits())
    assert said == {"in_force": kernel.in_force, "missing": kernel.missing}
    assert "resource limits" in said["in_force"]
