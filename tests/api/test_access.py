"""Who may ask: keys, tenants, and ids that are not one's own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from store import keys
from store.database import transaction
from tests.api.conftest import Server, Tenant, problem


def test_a_request_without_a_key_is_told_how_to_send_one(server: Server) -> None:
    answer = httpx.get(f"{server.url}/repair")
    problem(answer, 401, "key-missing")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["nonsense", "mcr_abcdefghijkl_wrong", "mcr__", "mcr_éééééééééééé_x".encode()])
def test_a_wrong_key_is_refused(server: Server, key: str | bytes) -> None:
    value = b"Bearer " + (key if isinstance(key, bytes) else key.encode())
    problem(httpx.get(f"{server.url}/repair", headers={b"Authorization": value}), 401, "key-not-valid")


def test_the_right_id_with_another_secret_is_refused(tenant: Tenant, neighbour: Tenant) -> None:
    mixed = "_".join([*tenant.key.split("_")[:2], neighbour.key.split("_", 2)[2]])
    answer = tenant.http.get("/repair", headers={"Authorization": f"Bearer {mixed}"})
    problem(answer, 401, "key-not-valid")


def test_an_expired_key_is_refused(tenant: Tenant) -> None:
    with transaction(tenant.database) as session:
        past = datetime.now(UTC) - timedelta(hours=1)
        _, plaintext = keys.create_key(session, tenant_id=tenant.id, label="old", expires_at=past)
    answer = tenant.http.get("/repair", headers={"Authorization": f"Bearer {plaintext}"})
    problem(answer, 401, "key-not-valid")


def test_a_made_key_works_until_it_is_revoked_and_is_never_shown_again(tenant: Tenant) -> None:
    made = tenant.http.post("/keys", json={"label": "notebook"})
    assert made.status_code == 201
    body = made.json()
    assert made.headers["location"] == f"/keys/{body['id']}"
    headers = {"Authorization": f"Bearer {body['key']}"}
    assert tenant.http.get("/repair", headers=headers).status_code == 200

    listed = tenant.http.get("/keys")
    assert {item["label"] for item in listed.json()["items"]} == {"test", "notebook"}
    assert body["key"].split("_", 2)[2] not in listed.text

    assert tenant.http.delete(f"/keys/{body['id']}").status_code == 204
    problem(tenant.http.get("/repair", headers=headers), 401, "key-not-valid")
    problem(tenant.http.delete(f"/keys/{body['id']}"), 404, "key-not-found")


def test_the_secret_of_a_key_is_not_in_the_stored_answer(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    first = tenant.http.post("/keys", json={"label": "once"}, headers=headers)
    again = tenant.http.post("/keys", json={"label": "once"}, headers=headers)
    assert first.json()["key"]
    assert again.json() == first.json() | {"key": None}
    assert len(tenant.http.get("/keys").json()["items"]) == 2


def test_a_key_of_another_tenant_cannot_be_revoked(tenant: Tenant, neighbour: Tenant) -> None:
    key_id = neighbour.key.split("_")[1]
    problem(tenant.http.delete(f"/keys/{key_id}"), 404, "key-not-found")
    assert neighbour.http.get("/repair").status_code == 200


@pytest.mark.parametrize("body", [{"label": ""}, {}, {"label": "x", "expires_at": "2020-01-01T00:00:00Z"}])
def test_a_key_request_must_fit(tenant: Tenant, body: dict[str, Any]) -> None:
    problem(tenant.http.post("/keys", json=body), 422, "invalid-request")


ANALYSIS_ROUTES = [
    ("GET", "/analysis/{}"),
    ("GET", "/analysis/{}/events"),
    ("GET", "/analysis/{}/points"),
    ("GET", "/analysis/{}/paths/standard"),
    ("GET", "/analysis/{}/report"),
    ("GET", "/analysis/{}/report.json"),
    ("GET", "/analysis/{}/manifest"),
    ("GET", "/analysis/{}/artifacts/report.html"),
    ("POST", "/analysis/{}/cancel"),
    ("POST", "/analysis/{}/retry"),
]
DIAGNOSIS_ROUTES = [
    ("GET", "/diagnosis/{}"),
    ("GET", "/diagnosis/{}/events"),
    ("POST", "/diagnosis/{}/cancel"),
    ("POST", "/diagnosis/{}/retry"),
]
JOB_ROUTES = [
    ("GET", "/repair/{}"),
    ("GET", "/repair/{}/events"),
    ("GET", "/repair/{}/curve"),
    ("GET", "/repair/{}/weights"),
    ("GET", "/repair/{}/weights?t=0.5"),
    ("GET", "/repair/{}/report"),
    ("GET", "/repair/{}/report.json"),
    ("GET", "/repair/{}/manifest"),
    ("GET", "/repair/{}/artifacts/report.html"),
    ("GET", "/repair/{}/selections"),
    ("GET", f"/repair/{{}}/selections/{UUID(int=1)}"),
    ("POST", "/repair/{}/selections"),
    ("POST", "/repair/{}/cancel"),
    ("POST", "/repair/{}/retry"),
]


def refused_like_a_missing_one(tenant: Tenant, job_id: str, method: str, route: str) -> bool:
    def ask(job_id: str) -> str:
        body = {"t": 0.5} if route.endswith("selections") and method == "POST" else None
        answer = tenant.http.request(method, route.format(job_id), json=body)
        problem(answer, 404, "job-not-found")
        return answer.text.replace(job_id, "ID")

    return ask(job_id) == ask(str(uuid4())) == ask("no-uuid")


@pytest.mark.parametrize(("method", "route"), JOB_ROUTES)
def test_a_foreign_job_looks_like_a_missing_one(neighbour: Tenant, finished: str, method: str, route: str) -> None:
    assert refused_like_a_missing_one(neighbour, finished, method, route)


@pytest.mark.parametrize(("method", "route"), ANALYSIS_ROUTES)
def test_a_foreign_analysis_looks_like_a_missing_one(
    neighbour: Tenant, finished_analysis: str, method: str, route: str
) -> None:
    assert refused_like_a_missing_one(neighbour, finished_analysis, method, route)


@pytest.mark.parametrize(("method", "route"), DIAGNOSIS_ROUTES)
def test_a_foreign_diagnosis_looks_like_a_missing_one(
    neighbour: Tenant, finished_diagnosis: str, method: str, route: str
) -> None:
    assert refused_like_a_missing_one(neighbour, finished_diagnosis, method, route)


def test_no_route_takes_a_job_of_another_kind(
    tenant: Tenant, finished: str, finished_analysis: str, finished_diagnosis: str
) -> None:
    kinds = [(finished, JOB_ROUTES), (finished_analysis, ANALYSIS_ROUTES), (finished_diagnosis, DIAGNOSIS_ROUTES)]
    for job_id, own in kinds:
        for _, routes in kinds:
            for method, route in routes if routes is not own else []:
                assert refused_like_a_missing_one(tenant, job_id, method, route), route


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_foreign_file_looks_like_a_missing_one(neighbour: Tenant, stock: dict[str, str], method: str) -> None:
    def ask(file_id: str) -> str:
        answer = neighbour.http.request(method, f"/files/{file_id}")
        problem(answer, 404, "file-not-found")
        return answer.text.replace(file_id, "ID")

    assert ask(stock["clean"]) == ask(str(uuid4())) == ask("no-uuid")


@pytest.mark.parametrize("role", ["suspect", "clean", "triggered", "second_model"])
def test_a_job_cannot_use_a_foreign_file(
    neighbour: Tenant,
    stock: dict[str, str],
    new_tenant: Callable[[], Tenant],
    sample: Callable[..., Any],
    role: str,
) -> None:
    own = {
        name: str(neighbour.add_file(sample(name, kind, b"")).id)
        for name, kind in (("suspect", "model"), ("clean", "clean"))
    }
    foreign = {role: stock.get(role, stock["suspect"])}
    body = problem(neighbour.http.post("/repair", json=own | foreign), 404, "file-not-found")
    assert body["pointer"] == f"#/{role}"
    assert neighbour.jobs() == 0


@pytest.mark.parametrize("role", ["regular", "robust", "clean"])
def test_an_analysis_cannot_use_a_foreign_file(
    neighbour: Tenant, pair: dict[str, Any], sample: Callable[..., Any], role: str
) -> None:
    kinds = {"regular": ("suspect", "model"), "robust": ("robust", "model"), "clean": ("clean", "clean")}
    own = {name: str(neighbour.add_file(sample(*kind, b"")).id) for name, kind in kinds.items()}
    answer = neighbour.http.post("/analysis", json=own | {role: pair[role]})
    assert problem(answer, 404, "file-not-found")["pointer"] == f"#/{role}"
    assert neighbour.jobs() == 0


def test_jobs_of_others_are_not_listed(
    tenant: Tenant, neighbour: Tenant, finished: str, finished_analysis: str, finished_diagnosis: str
) -> None:
    for route, job_id in (
        ("/repair", finished),
        ("/analysis", finished_analysis),
        ("/diagnosis", finished_diagnosis),
    ):
        assert [item["id"] for item in tenant.http.get(route).json()["items"]] == [job_id]
        assert neighbour.http.get(route).json() == {"items": [], "next": None}
