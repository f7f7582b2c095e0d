"""Every route of the application under every kind of key: nothing leaks, and foreign looks like missing.

The routes are read from the application: a new one without a line in `ROUTES` fails.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from store import keys
from store.database import transaction
from store.tables import SCOPES
from tests.api.conftest import CLASSES, Tenant, model_bytes, problem, refused, zip_of
from tests.api.tus import TUS, begin

OPEN = {"/problems", "/problems/{slug}", "/healthz", "/readyz", "/metrics", "/signing-key"}
ARCHITECTURE = {"name": "preact_resnet18", "options": {"width": 4}}
JOB, FILE, KEY, SELECTION = "job-not-found", "file-not-found", "key-not-found", "selection-not-found"
UPLOAD = "upload-not-found"
LOOKS = ("get", "head", "options")


@dataclass(frozen=True, kw_only=True)
class Route:
    """`own`: what the owner is answered. `unknown`: what a stranger is, where the request names something.

    `body` may name what `Estate.names` knows, as {name}.
    """

    own: int
    unknown: str | None = None
    body: dict[str, Any] | None = None


def job_routes(kind: str, *, files: bool = True) -> dict[tuple[str, str], Route]:
    """What every kind of job has; `files`: it makes some."""
    found = Route(own=200, unknown=JOB)
    ended = Route(own=409, unknown=JOB)  # found, but over
    made = ("/report", "/report.json", "/manifest", "/attestation", "/artifacts/{name}") if files else ()
    parts = ("", "/events", *made)
    base = f"/{kind}/{{job_id}}"
    return {
        ("get", f"/{kind}"): Route(own=200),
        **{("get", base + part): found for part in parts},
        **{("post", f"{base}/{verb}"): ended for verb in ("cancel", "retry")},
    }


ROUTES = {
    ("post", "/files"): Route(own=201),
    ("get", "/files"): Route(own=200),
    ("options", "/files/resumable"): Route(own=204),
    ("post", "/files/resumable"): Route(own=201),
    ("head", "/files/resumable/{upload_id}"): Route(own=200, unknown=UPLOAD),
    ("patch", "/files/resumable/{upload_id}"): Route(own=204, unknown=UPLOAD),
    ("delete", "/files/resumable/{upload_id}"): Route(own=204, unknown=UPLOAD),
    ("get", "/files/{file_id}"): Route(own=200, unknown=FILE),
    ("delete", "/files/{file_id}"): Route(own=204, unknown=FILE),
    ("get", "/files/{file_id}/samples"): Route(own=200, unknown=FILE),
    **job_routes("repair"),
    ("post", "/repair"): Route(
        own=202,
        unknown=FILE,
        body={"suspect": "{suspect}", "clean": "{clean}", "triggered": "{triggered}", "architecture": ARCHITECTURE},
    ),
    ("get", "/repair/{job_id}/curve"): Route(own=200, unknown=JOB),
    ("get", "/repair/{job_id}/weights"): Route(own=200, unknown=JOB),
    ("get", "/repair/{job_id}/selections"): Route(own=200, unknown=JOB),
    ("post", "/repair/{job_id}/selections"): Route(own=202, unknown=JOB, body={"t": 0.7}),
    ("get", "/repair/{job_id}/selections/{selection_id}"): Route(own=200, unknown=JOB),
    **job_routes("analysis"),
    ("post", "/analysis"): Route(
        own=202,
        unknown=FILE,
        body={"regular": "{suspect}", "robust": "{robust}", "clean": "{clean}", "architecture": ARCHITECTURE},
    ),
    ("get", "/analysis/{job_id}/points"): Route(own=200, unknown=JOB),
    ("get", "/analysis/{job_id}/paths/{path}"): Route(own=200, unknown=JOB),
    **job_routes("diagnosis", files=False),
    ("post", "/diagnosis"): Route(
        own=202, unknown=FILE, body={"suspect": "{suspect}", "clean": "{clean}", "architecture": ARCHITECTURE}
    ),
    ("get", "/quota"): Route(own=200),
    ("post", "/keys"): Route(own=201, body={"label": "new"}),
    ("get", "/keys"): Route(own=200),
    ("post", "/keys/{key_id}/rotate"): Route(own=201, unknown=KEY, body={}),
    ("delete", "/keys/{key_id}"): Route(own=204, unknown=KEY),
}
LISTS = [("get", path) for path in ("/files", "/repair", "/analysis", "/diagnosis", "/keys")]
NAMES_ONE = sorted(key for key, route in ROUTES.items() if route.unknown is not None)


@dataclass(frozen=True)
class Estate:
    """What a tenant has: name in a path or body -> id; `job_id` is that of the kind of job that the route names."""

    names: dict[str, str]

    def of(self, path: str) -> dict[str, str]:
        kind = path.split("/")[1]
        return self.names | ({"job_id": self.names[kind]} if kind in self.names else {})

    def missing(self) -> "Estate":
        """The same names for things that do not exist."""
        keep = ("name", "path")
        return Estate({name: value if name in keep else str(uuid4()) for name, value in self.names.items()})


@pytest.fixture
def estate(
    tenant: Tenant,
    stock: dict[str, str],
    pair: dict[str, Any],
    finished: str,
    finished_analysis: str,
    finished_diagnosis: str,
) -> Estate:
    """What `tenant` has, one of everything that a route can name."""
    selection = tenant.http.post(f"/repair/{finished}/selections", json={"t": 0.5}).raise_for_status().json()
    spare = tenant.http.post("/keys", json={"label": "spare"}).raise_for_status().json()
    upload = tenant.http.post("/files?kind=clean", content=zip_of(CLASSES)).raise_for_status().json()
    names = {"repair": finished, "analysis": finished_analysis, "diagnosis": finished_diagnosis}
    names |= {"robust": pair["robust"], **stock}
    names |= {"selection_id": selection["id"], "key_id": spare["id"], "file_id": upload["id"]}
    names["upload_id"] = begin(tenant.http, 5).raise_for_status().json()["id"]
    return Estate(names | {"name": "report.html", "path": "standard"})


def ask(http: httpx.Client, method: str, path: str, estate: Estate, key: str | None = None) -> httpx.Response:
    """Send the route's request about this estate, under another key than the client's where one is given."""
    names = estate.of(path)
    body = ROUTES[method, path].body
    sent = body and {name: value.format(**names) if isinstance(value, str) else value for name, value in body.items()}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if (method, path) == ("post", "/files"):
        return http.post("/files?kind=model", content=model_bytes(), headers=headers)
    if (method, path) == ("post", "/files/resumable"):
        return begin(http, 5, headers=headers)
    if path.startswith("/files/resumable"):
        headers |= TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    return http.request(method, path.format(**names), json=sent, headers=headers)


def without_names(answer: httpx.Response, estate: Estate) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers with every id of the estate replaced by its name."""
    of_its_own = ("date", "x-request-id", "ratelimit")
    headers = {name: value for name, value in answer.headers.items() if name not in of_its_own}
    text = answer.text
    for name, value in estate.names.items():
        text = text.replace(value, name)
    return answer.status_code, text, headers | {"content-length": ""}


def test_every_route_of_the_application_is_tried_here() -> None:
    documented = {
        (method, path) for path, methods in create_app().openapi()["paths"].items() for method in methods if path
    }
    assert {key for key in documented if key[1] not in OPEN} == set(ROUTES)
    assert {path for _, path in documented} >= OPEN


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_no_key_that_is_not_valid_opens_a_route(tenant: Tenant, estate: Estate, method: str, path: str) -> None:
    with transaction(tenant.database) as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        _, expired = keys.create_key(session, tenant_id=tenant.id, label="old", expires_at=past)
        row, revoked = keys.create_key(session, tenant_id=tenant.id, label="revoked")
        keys.revoke(session, tenant_id=tenant.id, key_id=row.id)
    with httpx.Client(base_url=tenant.http.base_url, timeout=60) as anyone:
        refused(ask(anyone, method, path, estate), 401, "key-missing")
    answers = [ask(tenant.http, method, path, estate, key) for key in (expired, revoked, f"{tenant.key}x", "nonsense")]
    for answer in answers:
        refused(answer, 401, "key-not-valid")
    assert len({(answer.text, answer.headers["www-authenticate"]) for answer in answers}) == 1


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_a_key_without_the_scope_is_refused(tenant: Tenant, estate: Estate, method: str, path: str) -> None:
    needed = "keys" if path.startswith("/keys") else "read" if method in LOOKS else "write"
    only, lacking = [key_with(tenant, scopes) for scopes in ({needed}, set(SCOPES) - {needed})]
    answer = ask(tenant.http, method, path, estate, lacking)
    refused(answer, 403, "key-scope-missing")
    if method != "head":
        assert (answer.json()["needed"], set(answer.json()["scopes"])) == (needed, set(SCOPES) - {needed})
    assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    assert not any(value in answer.text for value in estate.names.values())
    answer = ask(tenant.http, method, path, estate, only)
    if path.endswith("/rotate"):
        problem(answer, 403, "key-exceeds-yours")  # the scope is there, but the new key would have more
    else:
        assert answer.status_code == ROUTES[method, path].own


def key_with(tenant: Tenant, scopes: set[str]) -> str:
    with transaction(tenant.database) as session:
        return keys.create_key(session, tenant_id=tenant.id, label="some", scopes=scopes)[1]


@pytest.mark.parametrize(("method", "path"), NAMES_ONE)
def test_what_is_anothers_looks_like_what_is_missing(
    tenant: Tenant, neighbour: Tenant, estate: Estate, method: str, path: str
) -> None:
    nothing = estate.missing()
    foreign, missing = ask(neighbour.http, method, path, estate), ask(neighbour.http, method, path, nothing)
    refused(foreign, 404, str(ROUTES[method, path].unknown))
    assert without_names(foreign, estate) == without_names(missing, nothing)
    assert ask(tenant.http, method, path, estate).status_code == ROUTES[method, path].own, "the owner still has it"


def test_a_selection_of_another_looks_like_a_missing_one(
    neighbour: Tenant, estate: Estate, sample: Callable[..., Any]
) -> None:
    files = {
        name: str(neighbour.add_file(sample(name, kind, b"")).id)
        for name, kind in (("suspect", "model"), ("clean", "clean"))
    }
    own = neighbour.http.post("/repair", json={**files, "architecture": ARCHITECTURE}).raise_for_status().json()["id"]
    answers = [
        neighbour.http.get(f"/repair/{own}/selections/{selection}")
        for selection in (estate.names["selection_id"], str(uuid4()))
    ]
    texts = {re.sub(r"[0-9a-f-]{36}", "ID", problem(answer, 404, SELECTION)["detail"]) for answer in answers}
    assert len(texts) == 1


@pytest.mark.parametrize(("method", "path"), LISTS)
def test_no_list_shows_what_is_anothers(
    tenant: Tenant, neighbour: Tenant, estate: Estate, method: str, path: str
) -> None:
    mine, theirs = ask(tenant.http, method, path, estate), ask(neighbour.http, method, path, estate)
    assert (mine.status_code, theirs.status_code) == (200, 200)
    secrets = {value for name, value in estate.names.items() if name not in ("name", "path")} | {str(tenant.id)}
    assert any(secret in mine.text for secret in secrets)
    assert not any(secret in theirs.text for secret in secrets)
