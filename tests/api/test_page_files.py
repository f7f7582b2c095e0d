"""The web page's files: there without a key, and under headers that let nothing else in."""

import re

import httpx
import pytest

from api.page.endpoints import STATIC
from tests.api.conftest import Server, problem


@pytest.fixture
def anyone(server: Server) -> httpx.Client:
    """Someone without a key."""
    return httpx.Client(base_url=server.url, timeout=60)


@pytest.mark.parametrize("path", ["/", *(f"/page/{file.name}" for file in sorted(STATIC.iterdir()))])
def test_each_file_is_served_and_may_load_only_its_own_kind(anyone: httpx.Client, path: str) -> None:
    answer = anyone.get(path).raise_for_status()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    again = anyone.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code in (200, 304)


def test_nothing_is_loaded_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        for address in re.findall(r"https?://[^\s\"'`)]+", file.read_text()):
            assert address == "http://www.w3.org/2000/svg", f"{file.name} names {address}"


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/../endpoints.py", "/page/%2e%2e/endpoints.py", "/page/"])
def test_there_is_nothing_else(anyone: httpx.Client, path: str) -> None:
    problem(anyone.get(path), 404, "not-found")
