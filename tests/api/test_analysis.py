"""Posting an analysis, its points and its files; what it shares with a repair, it shares with its tests."""

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from httpx_sse import connect_sse
from sqlalchemy import func, select

from store import jobs
from store.database import transaction
from store.tables import JobEvent
from tests.api.conftest import (
    CLASSES,
    MAX_QUEUED_JOBS,
    PATH_BYTES,
    Sample,
    Tenant,
    model_bytes,
    problem,
)
from tests.api.results import analysis_point

ATTACK = {"norm": "linf", "epsilon": 8 / 255, "steps": 10, "step_size": 2 / 255, "random_start": True}


def post(tenant: Tenant, pair: dict[str, Any], **changes: Any) -> httpx.Response:
    return tenant.http.post("/analysis", json=pair | changes)


def events(tenant: Tenant) -> int:
    """How many events there are: all tests share the server's database, so only differences count."""
    with transaction(tenant.database) as session:
        return session.scalar(select(func.count()).select_from(JobEvent)) or 0


def test_a_posted_analysis_is_queued_with_every_default_filled_in(tenant: Tenant, pair: dict[str, Any]) -> None:
    answer = post(tenant, pair, labels={"model": "signs"})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/analysis/{body['id']}" == body["links"]["self"]
    assert (body["kind"], body["state"], body["result"], body["labels"]) == (
        "analysis",
        "queued",
        None,
        {"model": "signs"},
    )
    assert tenant.http.get(answer.headers["location"]).json() == body
    request = body["request"]
    assert request["estimate_seconds"] > 0
    assert {name: request[name] for name in ("regular", "robust", "clean")} == {
        name: pair[name] for name in ("regular", "robust", "clean")
    }
    assert request["architecture"] == {"name": "preact_resnet18", "options": {"width": 4}, "num_classes": 3}
    assert request["preprocessing"] == {"mean": [0, 0, 0], "std": [1, 1, 1], "size": None, "channels": "RGB"}
    assert (request["classes"], request["accept_low_accuracy"]) == (CLASSES, False)
    assert request["method"] == {
        "curve": "bezier",
        "bends": 1,
        "steps": None,
        "mirror": True,
        "seed": 0,
        "align": True,
        "points": 31,
        "robust_path": True,
        "max_images": 500,
    }
    assert request["pgd"] == ATTACK
    assert request["eigenvalues"] == {"iterations": 20, "tolerance": 0.001, "images": 100}


def test_the_worker_finds_the_models_in_their_places(tenant: Tenant, pair: dict[str, Any]) -> None:
    job = tenant.claim(post(tenant, pair, method={"seed": 7}).json()["id"])
    assert (job.kind, job.seed) == ("analysis", 7)
    places = (job.suspect_file_id, job.second_file_id, job.clean_file_id, job.triggered_file_id)
    assert [str(place) if place else None for place in places] == [pair["regular"], pair["robust"], pair["clean"], None]


def test_parts_can_be_left_out(tenant: Tenant, pair: dict[str, Any]) -> None:
    body = post(tenant, pair, eigenvalues=None, method={"robust_path": False}).json()
    assert body["request"]["eigenvalues"] is None
    assert body["links"]["robust_path"] is None
    assert body["links"]["standard_path"] == f"/analysis/{body['id']}/paths/standard"


def test_validate_only_starts_nothing_and_more_work_takes_longer(tenant: Tenant, pair: dict[str, Any]) -> None:
    def ask(**changes: Any) -> dict[str, Any]:
        answer = post(tenant, pair, validate_only=True, **changes)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    body = ask()
    assert (body["would_run"]["pgd"], body["classes"]) == (ATTACK, CLASSES)
    assert tenant.jobs() == 0
    usual = body["estimate"]["seconds"]
    assert ask(method={"robust_path": False})["estimate"]["seconds"] < usual
    assert ask(eigenvalues=None)["estimate"]["seconds"] < usual
    assert usual < ask(pgd={"steps": 100})["estimate"]["seconds"]
    assert usual < ask(method={"points": 101})["estimate"]["seconds"]


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"pgd": {"epsilon": -0.1}}, "#/pgd/epsilon"),
    ({"pgd": {"epsilon": 8}}, "#/pgd/epsilon"),
    ({"pgd": {"epsilon": 8, "norm": "linf"}}, "#/pgd/epsilon"),
    ({"pgd": {"epsilon": "NaN"}}, "#/pgd/epsilon"),
    ({"pgd": {"steps": 0}}, "#/pgd/steps"),
    ({"pgd": {"steps": 1001}}, "#/pgd/steps"),
    ({"pgd": {"step_size": 0}}, "#/pgd/step_size"),
    ({"pgd": {"norm": "l1"}}, "#/pgd/norm"),
    ({"pgd": {"restarts": 3}}, "#/pgd/restarts"),
    ({"method": {"points": 2}}, "#/method/points"),
    ({"method": {"points": 102}}, "#/method/points"),
    ({"method": {"max_images": 1}}, "#/method/max_images"),
    ({"method": {"bends": 0}}, "#/method/bends"),
    ({"method": {"plane": 15}}, "#/method/plane"),
    ({"eigenvalues": {"iterations": 0}}, "#/eigenvalues/iterations"),
    ({"eigenvalues": {"iterations": 201}}, "#/eigenvalues/iterations"),
    ({"eigenvalues": {"tolerance": 0}}, "#/eigenvalues/tolerance"),
    ({"eigenvalues": {"images": 1}}, "#/eigenvalues/images"),
    ({"regular": None}, "#/regular"),
    ({"suspect": "x"}, "#/suspect"),
]


@pytest.mark.parametrize(("changes", "pointer"), BAD_BODIES)
def test_a_body_that_does_not_fit_is_pointed_at_and_leaves_nothing(
    tenant: Tenant, pair: dict[str, Any], changes: dict[str, Any], pointer: str
) -> None:
    before = events(tenant)
    body = problem(post(tenant, pair, **changes), 422, "invalid-request")
    assert [place["pointer"] for place in body["errors"]] == [pointer], body
    assert (tenant.jobs(), events(tenant)) == (0, before)


def test_a_wide_ball_is_fine_in_the_other_norm(tenant: Tenant, pair: dict[str, Any]) -> None:
    assert post(tenant, pair, pgd={"norm": "l2", "epsilon": 8, "step_size": 2}).status_code == 202
    assert post(tenant, pair, pgd={"epsilon": 0}).status_code == 202


REFUSALS: list[tuple[dict[str, Any], int, str]] = [
    ({"architecture": "resnett18"}, 422, "unknown-architecture"),
    ({"architecture": {"name": "preact_resnet18", "options": {"width": 8}}}, 422, "tensors-do-not-match"),
    ({"classes": ["bird", "cat", "dog", "frog"]}, 422, "class-count-does-not-match"),
    ({"classes": ["bird", "cat", "frog"]}, 422, "classes-do-not-match"),
    ({"preprocessing": {"mean": [0.5], "std": [0.5]}}, 422, "preprocessing-does-not-fit"),
    ({"deadline_seconds": 10**9}, 422, "deadline-too-long"),
]


@pytest.mark.parametrize(("changes", "status", "slug"), REFUSALS)
def test_what_cannot_run_is_refused_and_leaves_nothing(
    tenant: Tenant, pair: dict[str, Any], changes: dict[str, Any], status: int, slug: str
) -> None:
    before = events(tenant)
    problem(post(tenant, pair, **changes), status, slug)
    assert (tenant.jobs(), events(tenant)) == (0, before)


@pytest.mark.parametrize("role", ["regular", "robust", "clean"])
def test_a_file_must_be_there_and_of_its_kind(tenant: Tenant, pair: dict[str, Any], role: str) -> None:
    other = pair["regular"] if role == "clean" else pair["clean"]
    assert problem(post(tenant, pair, **{role: other}), 422, "wrong-file-kind")["pointer"] == f"#/{role}"
    assert problem(post(tenant, pair, **{role: str(uuid4())}), 404, "file-not-found")["pointer"] == f"#/{role}"
    assert tenant.jobs() == 0


def test_the_models_must_be_two_of_the_same_make(
    tenant: Tenant, pair: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    same = problem(post(tenant, pair, robust=pair["regular"]), 422, "models-are-the-same")
    assert "`robust`" in same["detail"]
    assert "`regular`" in same["detail"]
    wider = str(tenant.add_file(sample("wider", "model", model_bytes(width=8))).id)
    body = problem(post(tenant, pair, robust=wider), 422, "models-differ")
    assert set(body["differing"][0]) == {"tensor", "regular", "robust"}
    assert body["differing"][0]["tensor"] in body["detail"]
    assert tenant.jobs() == 0


def test_repairs_and_analyses_wait_in_one_queue(tenant: Tenant, pair: dict[str, Any], order: dict[str, Any]) -> None:
    for number in range(MAX_QUEUED_JOBS):
        kind, body = ("/repair", order) if number % 2 else ("/analysis", pair)
        assert tenant.http.post(kind, json=body).status_code == 202
    problem(post(tenant, pair), 429, "too-many-queued-jobs")
    assert tenant.jobs() == MAX_QUEUED_JOBS


def test_a_repeated_post_with_its_key_is_the_same_analysis(tenant: Tenant, pair: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    first, again = (tenant.http.post("/analysis", json=pair, headers=headers) for _ in range(2))
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    problem(
        tenant.http.post("/analysis", json=pair | {"eigenvalues": None}, headers=headers), 422, "idempotency-key-reused"
    )
    assert tenant.jobs() == 1


def test_each_kind_lists_its_own(tenant: Tenant, pair: dict[str, Any], finished: str) -> None:
    made = [post(tenant, pair, labels={"a": "b"}).json()["id"] for _ in range(3)]
    first = tenant.http.get("/analysis", params={"limit": 2, "label": "a:b"}).json()
    second = tenant.http.get("/analysis", params={"limit": 2, "label": "a:b", "cursor": first["next"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next"] is None
    assert [item["id"] for item in tenant.http.get("/repair").json()["items"]] == [finished]
    assert tenant.http.get("/analysis", params={"state": "running"}).json()["items"] == []


def test_an_analysis_is_cancelled_and_retried(tenant: Tenant, pair: dict[str, Any]) -> None:
    job = post(tenant, pair, labels={"a": "b"}).json()
    assert tenant.http.post(job["links"]["cancel"]).json()["state"] == "cancelled"
    again = tenant.http.post(job["links"]["retry"])
    assert again.status_code == 202, again.text
    new = again.json()
    assert again.headers["location"] == f"/analysis/{new['id']}"
    assert (new["kind"], new["request"], new["retried_from"]) == ("analysis", job["request"], job["id"])


def test_a_file_of_a_waiting_analysis_stays(tenant: Tenant, pair: dict[str, Any]) -> None:
    job = post(tenant, pair).json()
    for role in ("regular", "robust", "clean"):
        refused = problem(tenant.http.delete(f"/files/{pair[role]}"), 409, "file-in-use")
        assert refused["jobs"] == [job["links"]["self"]]


def test_the_points_come_as_they_are_measured(tenant: Tenant, pair: dict[str, Any]) -> None:
    job = tenant.claim(post(tenant, pair).json()["id"])
    address = f"/analysis/{job.id}/points"
    assert tenant.http.get(address).json() == {"points": []}
    measured = [
        analysis_point("robust", 0.0),
        analysis_point("standard", 0.5),
        analysis_point("standard", 0.0) | dict.fromkeys(("eigenvalue", "eigenvalue_low", "eigenvalue_high")),
    ]
    with transaction(tenant.database) as session:
        jobs.record_analysis_points(session, job_id=job.id, attempt=job.attempt, points=measured)
    answer = tenant.http.get(address)
    points = answer.json()["points"]
    assert [(point["path"], point["t"]) for point in points] == [("standard", 0.0), ("standard", 0.5), ("robust", 0.0)]
    assert (points[0]["eigenvalue"], points[0]["eigenvalue_interval"]) == (None, None)
    assert points[1] == {
        "path": "standard",
        "t": 0.5,
        "clean_loss": 0.4,
        "clean_error": 0.1,
        "clean_error_interval": [0.05, 0.15],
        "robust_loss": 2.0,
        "robust_loss_interval": [1.8, 2.2],
        "robust_error": 0.6,
        "robust_error_interval": [0.5, 0.7],
        "eigenvalue": 3.0,
        "eigenvalue_interval": [2.5, 3.5],
        "eigenvalue_converged": 0.98,
    }
    same = tenant.http.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304


def test_a_finished_analysis_shows_its_result(tenant: Tenant, finished_analysis: str) -> None:
    body = tenant.http.get(f"/analysis/{finished_analysis}").json()
    result = body["result"]
    assert (body["state"], body["warnings"]) == ("succeeded", ["few images"])
    assert result["paths"][0]["robust_barrier"] == {"height": 1.2, "interval": [0.9, 1.5], "t": 0.4}
    assert result["paths"][0]["correlation"]["pearson"] == 0.9
    assert result["paths"][1]["correlation"] is None
    assert (result["alignment"], result["fit_images"], result["report_images"]) == ("Channels were matched.", 60, 40)


@pytest.mark.parametrize("path", ["standard", "robust"])
def test_the_fitted_paths_can_be_had_whole_and_in_parts(tenant: Tenant, finished_analysis: str, path: str) -> None:
    address = tenant.http.get(f"/analysis/{finished_analysis}").json()["links"][f"{path}_path"]
    whole = tenant.http.get(address)
    assert whole.content == PATH_BYTES[path]
    assert whole.headers["etag"] == f'"{hashlib.sha256(PATH_BYTES[path]).hexdigest()}"'
    assert whole.headers["repr-digest"].startswith("sha-256=:")
    part = tenant.http.get(address, headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, PATH_BYTES[path][100:])


def test_a_path_that_was_not_made_is_a_404(tenant: Tenant, pair: dict[str, Any]) -> None:
    job = tenant.claim(post(tenant, pair, method={"robust_path": False}).json()["id"])
    made = tenant.artifact(job, "path.safetensors", b"path", "application/octet-stream")
    tenant.finish_analysis(job, [made])
    problem(tenant.http.get(f"/analysis/{job.id}/paths/robust"), 404, "artifact-not-found")
    problem(tenant.http.get(f"/analysis/{job.id}/paths/third"), 422, "invalid-request")


def test_the_report_the_manifest_and_the_pictures_can_be_had(tenant: Tenant, finished_analysis: str) -> None:
    base = f"/analysis/{finished_analysis}"
    report = tenant.http.get(f"{base}/report")
    assert report.headers["content-type"].startswith("text/html")
    assert "sandbox" in report.headers["content-security-policy"]
    assert tenant.http.get(f"{base}/report.json").json() == {"paths": 2}
    assert tenant.http.get(f"{base}/manifest").json() == {"seed": 0}
    for item in tenant.http.get(base).json()["result"]["artifacts"]:
        answer = tenant.http.get(f"{base}/artifacts/{item['name']}")
        assert hashlib.sha256(answer.content).hexdigest() == item["sha256"]


@pytest.mark.parametrize("what", ["report", "report.json", "manifest", "paths/standard", "artifacts/losses.png"])
def test_an_analysis_that_has_not_finished_has_no_results(tenant: Tenant, pair: dict[str, Any], what: str) -> None:
    job = post(tenant, pair).json()["id"]
    assert problem(tenant.http.get(f"/analysis/{job}/{what}"), 409, "job-not-finished")["state"] == "queued"
    tenant.http.post(f"/analysis/{job}/cancel").raise_for_status()
    assert problem(tenant.http.get(f"/analysis/{job}/{what}"), 409, "job-has-no-result")["state"] == "cancelled"


def test_the_stream_of_an_analysis_has_its_points_and_ends(tenant: Tenant, finished_analysis: str) -> None:
    with connect_sse(tenant.http, "GET", f"/analysis/{finished_analysis}/events", timeout=30) as source:
        told = [event for event in source.iter_sse() if event.data]
    points = [event.json() for event in told if event.event == "point"]
    assert [(point["path"], point["t"], point["robust_loss"]) for point in points] == [
        ("standard", 0.0, 2.0),
        ("robust", 0.0, 2.0),
    ]
    assert told[-1].event == "succeeded"
