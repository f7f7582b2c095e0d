"""Rate limits: shared between API processes, said in standard headers, and never in the way when Redis is away."""

import re
from collections.abc import Iterator

import httpx
import pytest

from store.settings import Settings
from tests.api.conftest import LOCALHOST, Server, Tenant, problem, serving
from tests.conftest import free_port

PER_MINUTE = 7
FAILURES = 3


@pytest.fixture(scope="module")
def pair_of_servers(api_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two API processes with the same low limits."""
    low = api_settings.model_copy(update={"requests_per_minute": PER_MINUTE, "failed_keys_per_minute": FAILURES})
    with (
        serving(low, tmp_path_factory.mktemp("first")) as first,
        serving(low, tmp_path_factory.mktemp("second")) as second,
    ):
        for server in (first, second):
            server.wait_until_ready("/healthz")
        yield [first, second]


def ask(server: Server, tenant: Tenant) -> httpx.Response:
    return httpx.get(f"{server.url}/quota", headers=dict(tenant.http.headers), timeout=60)


def test_two_processes_count_the_same_requests(
    pair_of_servers: list[Server], tenant: Tenant, neighbour: Tenant
) -> None:
    for number in range(PER_MINUTE):
        answer = ask(pair_of_servers[number % 2], tenant)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == f'"key";q={PER_MINUTE};w=60'
        shown = re.fullmatch(r'"key";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert shown is not None
        assert int(shown[1]) == PER_MINUTE - 1 - number
    for server in pair_of_servers:
        refused = ask(server, tenant)
        assert problem(refused, 429, "too-many-requests")["limit"] == PER_MINUTE
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit"].startswith('"key";r=0;')
    assert ask(pair_of_servers[0], neighbour).status_code == 200, "another key has its own"


def test_guessing_keys_is_slowed_down_and_hinders_nobody_else(pair_of_servers: list[Server], tenant: Tenant) -> None:
    statuses = []
    for number in range(FAILURES + 2):
        url = pair_of_servers[number % 2].url
        answer = httpx.get(f"{url}/quota", headers={"Authorization": f"Bearer mcr_guess_{number}"})
        statuses.append(answer.status_code)
    assert statuses == [401] * FAILURES + [429] * 2
    assert int(answer.headers["retry-after"]) > 0
    assert ask(pair_of_servers[0], tenant).status_code == 200, "a valid key from the same address"


def test_the_operators_routes_are_not_counted(pair_of_servers: list[Server]) -> None:
    for _ in range(PER_MINUTE + FAILURES + 1):
        answer = httpx.get(f"{pair_of_servers[0].url}/healthz")
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


def test_without_redis_nobody_is_refused(
    api_settings: Settings, tmp_path_factory: pytest.TempPathFactory, tenant: Tenant
) -> None:
    away = api_settings.model_copy(
        update={"redis_url": f"redis://{LOCALHOST}:{free_port()}/0", "requests_per_minute": 1}
    )
    with serving(away, tmp_path_factory.mktemp("away")) as server:
        server.wait_until_ready("/healthz")
        for _ in range(3):
            answer = ask(server, tenant)
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers
        problem(httpx.get(f"{server.url}/quota", headers={"Authorization": "Bearer x"}), 401, "key-not-valid")
