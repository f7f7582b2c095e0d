"""Posting a diagnosis and reading it; what it shares with a repair, it shares with its tests."""

from typing import Any

import pytest
from httpx_sse import connect_sse

from tests.api.conftest import CLASSES, Tenant, problem
from tests.api.results import DIAGNOSIS_RESULT


def test_a_posted_diagnosis_is_queued_with_every_default_filled_in(tenant: Tenant, order: dict[str, Any]) -> None:
    answer = tenant.http.post("/diagnosis", json=order | {"labels": {"model": "signs"}})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    base = f"/diagnosis/{body['id']}"
    assert body["links"] == {"self": base, **{part: f"{base}/{part}" for part in ("events", "cancel", "retry")}}
    assert answer.headers["location"] == base
    assert (body["kind"], body["state"], body["result"]) == ("diagnosis", "queued", None)
    request = body["request"]
    assert request.pop("estimate_seconds") > 0
    assert request == {
        "suspect": order["suspect"],
        "clean": order["clean"],
        "architecture": {"name": "preact_resnet18", "options": {"width": 4}, "num_classes": 3},
        "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1], "size": None, "channels": "RGB"},
        "classes": CLASSES,
    }


@pytest.mark.parametrize("unknown", [{"method": {}}, {"accept_low_accuracy": True}, {"triggered": "x"}])
def test_what_makes_no_sense_in_a_diagnosis_is_refused(
    tenant: Tenant, order: dict[str, Any], unknown: dict[str, Any]
) -> None:
    problem(tenant.http.post("/diagnosis", json=order | unknown), 422, "invalid-request")


def test_what_would_run_is_told_without_starting_it(tenant: Tenant, order: dict[str, Any]) -> None:
    answer = tenant.http.post("/diagnosis", json=order | {"validate_only": True})
    assert (answer.status_code, answer.json()["classes"]) == (200, CLASSES)
    assert tenant.jobs() == 0


@pytest.mark.parametrize(("role", "other"), [("suspect", "clean"), ("clean", "suspect")])
def test_files_must_be_of_their_kind(tenant: Tenant, order: dict[str, Any], role: str, other: str) -> None:
    body = problem(tenant.http.post("/diagnosis", json=order | {role: order[other]}), 422, "wrong-file-kind")
    assert body["pointer"] == f"#/{role}"


def test_a_finished_diagnosis_shows_its_result_and_its_history(tenant: Tenant, finished_diagnosis: str) -> None:
    base = f"/diagnosis/{finished_diagnosis}"
    body = tenant.http.get(base).json()
    assert {name: body["result"][name] for name in DIAGNOSIS_RESULT} == DIAGNOSIS_RESULT
    assert body["warnings"] == DIAGNOSIS_RESULT["warnings"]
    with connect_sse(tenant.http, "GET", f"{base}/events", timeout=30) as source:
        assert [event.event for event in source.iter_sse()][-1] == "succeeded"


def test_a_diagnosis_is_cancelled_and_retried(tenant: Tenant, order: dict[str, Any]) -> None:
    base = tenant.http.post("/diagnosis", json=order).headers["location"]
    assert tenant.http.post(f"{base}/cancel").json()["state"] == "cancelled"
    again = tenant.http.post(f"{base}/retry").json()
    assert (again["kind"], again["state"]) == ("diagnosis", "queued")


def test_a_diagnosis_has_no_files(tenant: Tenant, finished_diagnosis: str) -> None:
    for part in ("weights", "report", "manifest", "attestation"):
        assert tenant.http.get(f"/diagnosis/{finished_diagnosis}/{part}").status_code == 404
