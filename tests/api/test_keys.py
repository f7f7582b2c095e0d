"""Scopes, expiry and rotation of keys: no key can make a stronger one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from client import Client
from client.cli import app as cli
from store import keys
from store.database import transaction
from tests.api.conftest import Tenant, problem


def under(tenant: Tenant, key: str, method: str, path: str, body: Any = None) -> httpx.Response:
    return tenant.http.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})


def make(tenant: Tenant, **properties: Any) -> dict[str, Any]:
    answer: dict[str, Any] = tenant.http.post("/keys", json={"label": "x"} | properties).raise_for_status().json()
    return answer


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def test_a_key_has_the_scopes_that_were_asked_for(tenant: Tenant) -> None:
    made = make(tenant, scopes=["read"])
    assert made["scopes"] == ["read"]
    assert make(tenant, scopes=["read", "keys", "read"])["scopes"] == ["read", "keys"]
    assert under(tenant, made["key"], "GET", "/repair").status_code == 200
    problem(under(tenant, made["key"], "POST", "/keys", {"label": "y"}), 403, "key-scope-missing")
    assert make(tenant)["scopes"] == ["read", "write", "keys"]
    problem(tenant.http.post("/keys", json={"label": "x", "scopes": ["all"]}), 422, "invalid-request")
    problem(tenant.http.post("/keys", json={"label": "x", "scopes": []}), 422, "invalid-request")


def test_a_key_gives_no_scope_that_it_has_not(tenant: Tenant) -> None:
    weak = make(tenant, scopes=["read", "keys"])["key"]
    body = problem(under(tenant, weak, "POST", "/keys", {"label": "x", "scopes": ["write"]}), 403, "key-exceeds-yours")
    assert body["scopes"] == ["read", "keys"]
    assert under(tenant, weak, "POST", "/keys", {"label": "x"}).json()["scopes"] == ["read", "keys"]


def test_no_key_outlives_the_one_that_made_it(tenant: Tenant) -> None:
    short = make(tenant, expires_at=in_hours(2))
    problem(
        under(tenant, short["key"], "POST", "/keys", {"label": "x", "expires_at": in_hours(3)}),
        403,
        "key-exceeds-yours",
    )
    child = under(tenant, short["key"], "POST", "/keys", {"label": "x"}).json()
    assert child["expires_at"] == short["expires_at"]
    rotated = {"expires_at": in_hours(3)}
    problem(under(tenant, short["key"], "POST", f"/keys/{short['id']}/rotate", rotated), 403, "key-exceeds-yours")
    endless = make(tenant)["id"]
    problem(under(tenant, short["key"], "POST", f"/keys/{endless}/rotate", {}), 403, "key-exceeds-yours")


def test_a_rotated_key_goes_on_for_the_overlap_and_no_longer(tenant: Tenant) -> None:
    old = make(tenant, label="laptop", scopes=["read"])
    new = tenant.http.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 600}).raise_for_status().json()
    assert (new["label"], new["scopes"], new["expires_at"]) == ("laptop", ["read"], None)
    assert new["id"] != old["id"]
    for key in (old["key"], new["key"]):
        assert under(tenant, key, "GET", "/repair").status_code == 200
    shown = {item["id"]: item for item in tenant.http.get("/keys").json()["items"]}
    until = datetime.fromisoformat(shown[old["id"]]["expires_at"]) - datetime.fromisoformat(new["created_at"])
    assert until == timedelta(seconds=600)

    last = tenant.http.post(f"/keys/{new['id']}/rotate", json={"overlap_seconds": 0}).raise_for_status().json()
    problem(under(tenant, new["key"], "GET", "/repair"), 401, "key-not-valid")
    assert under(tenant, last["key"], "GET", "/repair").status_code == 200


def test_rotation_never_prolongs_the_old_key(tenant: Tenant) -> None:
    old = make(tenant, expires_at=in_hours(1))
    new = tenant.http.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 86_400}).raise_for_status().json()
    shown = {item["id"]: item for item in tenant.http.get("/keys").json()["items"]}
    assert shown[old["id"]]["expires_at"] == new["expires_at"] == old["expires_at"]


def test_a_key_that_has_ended_cannot_be_rotated(tenant: Tenant) -> None:
    revoked = make(tenant)["id"]
    tenant.http.delete(f"/keys/{revoked}").raise_for_status()
    with transaction(tenant.database) as session:
        past = datetime.now(UTC) - timedelta(hours=1)
        expired, _ = keys.create_key(session, tenant_id=tenant.id, label="x", expires_at=past)
    for key_id in (revoked, expired.id):
        problem(tenant.http.post(f"/keys/{key_id}/rotate", json={}), 404, "key-not-found")


def test_the_secret_of_a_rotated_key_is_not_in_the_stored_answer(tenant: Tenant) -> None:
    address, headers = f"/keys/{make(tenant)['id']}/rotate", {"Idempotency-Key": "once"}
    first = tenant.http.post(address, json={}, headers=headers).raise_for_status().json()
    assert first["key"]
    assert tenant.http.post(address, json={}, headers=headers).json() == first | {"key": None}


@pytest.mark.parametrize("seconds", [-1, 30 * 86_400 + 1])
def test_an_overlap_is_between_now_and_a_month(tenant: Tenant, seconds: int) -> None:
    body = {"overlap_seconds": seconds}
    problem(tenant.http.post(f"/keys/{make(tenant)['id']}/rotate", json=body), 422, "invalid-request")


def test_the_sdk_makes_and_rotates_keys_and_shows_the_quota(tenant: Tenant) -> None:
    with Client(str(tenant.http.base_url), tenant.key) as client:
        until = datetime.now(UTC) + timedelta(days=1)
        made = client.create_key("robot", scopes=["write", "read"], expires_at=until)
        assert (made.scopes, made.expires_at) == (("read", "write"), until)
        rotated = client.rotate_key(made.id, overlap=timedelta(0))
        assert (rotated.label, rotated.scopes, rotated.expires_at) == ("robot", ("read", "write"), until)
        assert client.quota().queued_jobs.used == 0
    problem(under(tenant, str(made.key), "GET", "/quota"), 401, "key-not-valid")
    assert under(tenant, str(rotated.key), "GET", "/quota").status_code == 200


def test_the_command_makes_and_rotates_keys(tenant: Tenant) -> None:
    def run(*arguments: str) -> str:
        environment = {"MODECONN_URL": str(tenant.http.base_url), "MODECONN_KEY": tenant.key, "COLUMNS": "200"}
        done = CliRunner().invoke(cli, ["keys", *arguments], env=environment)
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    made = run("new", "robot", "--scope", "read", "--days", "2").strip()
    rotated = run("rotate", made.split("_")[1], "--overlap-hours", "0").strip()
    problem(under(tenant, made, "GET", "/repair"), 401, "key-not-valid")
    assert under(tenant, rotated, "GET", "/repair").status_code == 200
    listed = run("list")
    assert "expired" in listed
    assert "until" in listed
    assert rotated not in listed
