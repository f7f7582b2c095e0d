"""The shape of the whole: problems that explain themselves, the OpenAPI document, safe headers, no heavy imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import api
import store
from api.problems import CATALOGUE
from intake.launcher import PROBLEMS
from tests.api.conftest import Server, Tenant, problem, refused

ROUTES = {
    ("post", "/files"),
    ("get", "/files"),
    ("options", "/files/resumable"),
    ("post", "/files/resumable"),
    ("head", "/files/resumable/{upload_id}"),
    ("patch", "/files/resumable/{upload_id}"),
    ("delete", "/files/resumable/{upload_id}"),
    ("get", "/files/{file_id}"),
    ("get", "/files/{file_id}/samples"),
    ("delete", "/files/{file_id}"),
    ("post", "/repair"),
    ("get", "/repair"),
    ("get", "/repair/{job_id}"),
    ("get", "/repair/{job_id}/events"),
    ("get", "/repair/{job_id}/curve"),
    ("get", "/repair/{job_id}/weights"),
    ("post", "/repair/{job_id}/selections"),
    ("get", "/repair/{job_id}/selections"),
    ("get", "/repair/{job_id}/selections/{selection_id}"),
    ("get", "/repair/{job_id}/report"),
    ("get", "/repair/{job_id}/report.json"),
    ("get", "/repair/{job_id}/manifest"),
    ("get", "/repair/{job_id}/artifacts/{name}"),
    ("post", "/repair/{job_id}/cancel"),
    ("post", "/repair/{job_id}/retry"),
    ("post", "/analysis"),
    ("get", "/analysis"),
    ("get", "/analysis/{job_id}"),
    ("get", "/analysis/{job_id}/events"),
    ("get", "/analysis/{job_id}/points"),
    ("get", "/analysis/{job_id}/paths/{path}"),
    ("get", "/analysis/{job_id}/report"),
    ("get", "/analysis/{job_id}/report.json"),
    ("get", "/analysis/{job_id}/manifest"),
    ("get", "/analysis/{job_id}/artifacts/{name}"),
    ("post", "/analysis/{job_id}/cancel"),
    ("post", "/analysis/{job_id}/retry"),
    ("post", "/diagnosis"),
    ("get", "/diagnosis"),
    ("get", "/diagnosis/{job_id}"),
    ("get", "/diagnosis/{job_id}/events"),
    ("post", "/diagnosis/{job_id}/cancel"),
    ("post", "/diagnosis/{job_id}/retry"),
    ("post", "/keys"),
    ("get", "/keys"),
    ("post", "/keys/{key_id}/rotate"),
    ("delete", "/keys/{key_id}"),
    ("get", "/quota"),
    ("get", "/problems"),
    ("get", "/problems/{slug}"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/signing-key"),
    ("get", "/repair/{job_id}/attestation"),
    ("get", "/analysis/{job_id}/attestation"),
}


@pytest.fixture(scope="session")
def anyone(server: Server) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def document(anyone: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = anyone.get("/openapi.json").raise_for_status().json()
    return answer


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): op for path, methods in document["paths"].items() for method, op in methods.items()}


def test_every_route_of_the_contract_is_documented(document: dict[str, Any]) -> None:
    assert set(operations(document)) == ROUTES


def test_every_operation_says_what_it_does_and_how_it_fails(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                content = answer["content"]["application/problem+json"]
                assert list(answer["content"]) == ["application/problem+json"], where
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, where
                assert all(item["value"]["status"] == int(status) for item in content["examples"].values()), where


def test_every_post_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in names) == (method == "post"), path


def test_only_operation_and_problem_pages_are_open(document: dict[str, Any], anyone: httpx.Client) -> None:
    for (method, path), operation in operations(document).items():
        is_open = operation["tags"][0] in ("operation", "problems")
        assert ("security" not in operation) == is_open, path
        if not is_open:
            address = re.sub(r"\{\w+\}", "x", path)
            refused(anyone.request(method, address), 401, "key-missing")


def test_every_reference_in_the_document_resolves(document: dict[str, Any]) -> None:
    found = set(re.findall(r"#/components/schemas/([\w-]+)", str(document)))
    assert found <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_link_names_a_route_and_parameters_that_it_has(document: dict[str, Any]) -> None:
    routes = {operation["operationId"]: operation for operation in operations(document).values()}
    linked = set()
    for operation in routes.values():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                taken = {parameter["name"] for parameter in routes[link["operationId"]]["parameters"]}
                assert set(link["parameters"]) <= taken
                linked.add(link["operationId"])
    assert len(linked) > 25


def test_a_body_that_is_no_text_is_refused_as_no_json(tenant: Tenant) -> None:
    problem(
        tenant.http.post("/keys", content=b"\xff", headers={"Content-Type": "application/json"}), 400, "invalid-json"
    )


def test_every_problem_type_explains_itself(anyone: httpx.Client) -> None:
    listed = anyone.get("/problems").json()["items"]
    slugs = {item["type"].removeprefix("/problems/") for item in listed}
    assert set(PROBLEMS) <= slugs
    for item in listed:
        assert item["meaning"].endswith(".")
        assert item["remedy"].endswith((".", "`"))
    assert anyone.get(listed[0]["type"]).json() == listed[0]


def test_every_problem_that_ends_a_job_explains_itself() -> None:
    """The workers and the store write problem types into jobs: each must lead somewhere."""
    root = Path(store.__file__).parents[1]
    written = set(re.findall(r'"/problems/([a-z-]+)"', "".join(p.read_text() for p in root.glob("store/*.py"))))
    for path in root.glob("worker/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("JobProblem", "problem") and node.args:
                written |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    assert len(written) > 5
    assert written <= set(CATALOGUE)


def test_every_documented_problem_can_be_opened(document: dict[str, Any], anyone: httpx.Client) -> None:
    types = set(re.findall(r"'type': '(/problems/[\w-]+)'", str(document)))
    assert len(types) > 30
    for address in types:
        assert anyone.get(address).status_code == 200


def test_what_does_not_exist_is_a_problem_too(anyone: httpx.Client, tenant: Tenant) -> None:
    problem(anyone.get("/nowhere"), 404, "not-found")
    problem(anyone.get("/problems/none"), 404, "problem-not-found")
    answer = tenant.http.put("/repair", json={})
    problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/repair?label=a:%00"), ("DELETE", "/keys/%00"), ("GET", "/repair?label=%00:a")],
)
def test_characters_that_cannot_be_stored_are_refused(tenant: Tenant, method: str, path: str) -> None:
    problem(tenant.http.request(method, path), 422, "invalid-request")


def test_no_text_in_a_body_can_break_the_store(tenant: Tenant, order: dict[str, Any]) -> None:
    for odd in ('"\\u0000"', '"\\ud800"'):
        for body in (
            f'{{"labels": {{"a": {odd}}}, ',
            f'{{"architecture": {odd}, ',
            f'{{"classes": [{odd}, "b", "c"], ',
        ):
            content = body + f'"suspect": "{order["suspect"]}", "clean": "{order["clean"]}"}}'
            answer = tenant.http.post("/repair", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, answer.text
    assert tenant.jobs() == 0


def test_every_answer_is_safe_to_open_and_can_be_traced(anyone: httpx.Client) -> None:
    for path in ("/healthz", "/nowhere", "/repair"):
        answer = anyone.get(path, headers={"X-Request-ID": "trace-12345"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"] == "trace-12345"
    ids = {anyone.get("/healthz", headers={"X-Request-ID": "a b; c=d"}).headers["x-request-id"] for _ in "12"}
    assert len(ids) == 2
    assert "a b; c=d" not in ids


def test_the_log_has_requests_but_no_secrets(server: Server, tenant: Tenant) -> None:
    tenant.http.get("/repair?label=secret:thing", headers={"X-Request-ID": "find-this-line"})
    line = server.logged("find-this-line")
    log = server.log.read_text()
    assert '"route": "/repair"' in line
    assert '"status": 200' in line
    assert tenant.key.split("_")[1] in line
    assert tenant.key.split("_", 2)[2] not in log  # a secret may have more of them
    assert "secret:thing" not in log


def test_the_figures_name_routes_but_no_ids(anyone: httpx.Client, tenant: Tenant, finished: str) -> None:
    tenant.http.get(f"/repair/{finished}").raise_for_status()
    anyone.request("MADEUP", "/repair")
    figures = anyone.get("/metrics").text
    assert 'modeconn_http_requests_total{method="GET",route="/repair/{job_id}",status="200"}' in figures
    assert "modeconn_jobs_accepted_total" in figures
    assert 'method="OTHER"' in figures
    assert "MADEUP" not in figures
    assert finished not in figures
    assert str(tenant.id) not in figures


def test_only_the_key_and_the_readiness_are_looked_up_for_the_whole_service() -> None:
    """All else runs under row-level security, for the caller's tenant."""
    for_all = set()
    for path in Path(api.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            begins = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "transaction",
                "reading",
                "parts.factory",
            )
            if begins and "bind_tenant" not in path.read_text():
                for_all.add(path.relative_to(Path(api.__file__).parent).as_posix())
    assert for_all == {"dependencies.py", "health/service.py"}


def test_the_api_never_loads_the_method_or_torch() -> None:
    look = "import sys, api.app; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=280)
    loaded = set(found.stdout.split())
    assert {"api", "store", "intake"} <= loaded
    assert not loaded & {"torch", "modeconn_core", "worker", "client"}
