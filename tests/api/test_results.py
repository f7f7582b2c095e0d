"""Weights, reports, pictures, and other points of the path."""

import base64
import hashlib
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis

from store import jobs, selections
from store.database import transaction
from store.jobs import NewArtifact
from store.queue import QUEUE
from store.settings import Settings
from store.storage import artifact_name
from tests.api.conftest import Tenant, png, problem

WEIGHTS = bytes(range(256)) * 40
DIGEST = hashlib.sha256(WEIGHTS)


def test_the_weights_come_whole_with_their_digest(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/weights")
    assert (answer.status_code, answer.content) == (200, WEIGHTS)
    assert answer.headers["etag"] == f'"{DIGEST.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(DIGEST.digest()).decode()}:"
    assert answer.headers["accept-ranges"] == "bytes"
    assert 'filename="repaired.safetensors"' in answer.headers["content-disposition"]


def test_the_weights_are_not_sent_twice(tenant: Tenant, finished: str) -> None:
    headers = {"If-None-Match": f'W/"other", "{DIGEST.hexdigest()}"'}
    answer = tenant.http.get(f"/repair/{finished}/weights", headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")


def test_a_download_can_be_continued(tenant: Tenant, finished: str) -> None:
    etag = f'"{DIGEST.hexdigest()}"'

    def part(asked: str, condition: str = etag) -> httpx.Response:
        return tenant.http.get(f"/repair/{finished}/weights", headers={"Range": asked, "If-Range": condition})

    first, rest = part("bytes=0-999"), part("bytes=1000-")
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.headers["content-range"] == f"bytes 0-999/{len(WEIGHTS)}"
    assert first.content + rest.content == WEIGHTS
    assert part("bytes=-5").content == WEIGHTS[-5:]
    assert first.headers["repr-digest"] == part("bytes=5-").headers["repr-digest"]
    changed = part("bytes=1000-", condition='"another file"')
    assert (changed.status_code, changed.content) == (200, WEIGHTS)


def test_a_range_outside_of_the_file_is_refused(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/weights", headers={"Range": "bytes=99999-"})
    problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(WEIGHTS)}"


def test_a_range_that_is_none_is_ignored(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/weights", headers={"Range": "lines=1-2"})
    assert (answer.status_code, answer.content) == (200, WEIGHTS)


RESULTS = ["weights", "weights?t=0.3", "report", "report.json", "manifest", "artifacts/trigger-0.png"]


@pytest.mark.parametrize("what", RESULTS)
def test_a_job_that_runs_has_no_results_yet(tenant: Tenant, order: dict[str, Any], what: str) -> None:
    job = tenant.http.post("/repair", json=order).json()["id"]
    assert problem(tenant.http.get(f"/repair/{job}/{what}"), 409, "job-not-finished")["state"] == "queued"
    tenant.claim(job)
    answer = tenant.http.get(f"/repair/{job}/{what}")
    assert problem(answer, 409, "job-not-finished")["state"] == "running"
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("what", RESULTS)
def test_a_job_that_was_cancelled_has_no_results(tenant: Tenant, order: dict[str, Any], what: str) -> None:
    job = tenant.http.post("/repair", json=order).json()["id"]
    tenant.http.post(f"/repair/{job}/cancel").raise_for_status()
    assert problem(tenant.http.get(f"/repair/{job}/{what}"), 409, "job-has-no-result")["state"] == "cancelled"


def test_the_report_cannot_run_or_load_anything(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/report")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("inline")
    assert "<title>Report</title>" in answer.text


def test_the_report_and_the_manifest_are_json_too(tenant: Tenant, finished: str) -> None:
    assert tenant.http.get(f"/repair/{finished}/report.json").json() == {"t": 0.25}
    assert tenant.http.get(f"/repair/{finished}/manifest").json() == {"seed": 0}


def test_every_named_artifact_can_be_had(tenant: Tenant, finished: str) -> None:
    for item in tenant.http.get(f"/repair/{finished}").json()["result"]["artifacts"]:
        answer = tenant.http.get(f"/repair/{finished}/artifacts/{item['name']}")
        assert hashlib.sha256(answer.content).hexdigest() == item["sha256"]
        assert answer.headers["content-type"].startswith(item["media_type"])


@pytest.mark.parametrize("name", ["nothing.png", "..%2F..%2Fmanifest.json", "trigger-0.png%0A"])
def test_an_artifact_that_is_none_is_a_404(tenant: Tenant, finished: str, name: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/artifacts/{name}")
    assert answer.status_code == 404
    if "%2F" not in name:
        assert "report.html" in problem(answer, 404, "artifact-not-found")["artifacts"]


def test_an_artifact_whose_bytes_are_gone_is_a_410(tenant: Tenant, finished: str) -> None:
    tenant.storage.delete(artifact_name(UUID(finished), 1, "trigger-0.png"))
    problem(tenant.http.get(f"/repair/{finished}/artifacts/trigger-0.png"), 410, "artifact-gone")


def export(tenant: Tenant, job_id: str, selection_id: str, content: bytes) -> None:
    """What a worker does with a selection."""
    with transaction(tenant.database) as session:
        held = selections.claim(
            session, selection_id=UUID(selection_id), worker="test", lease_seconds=60, max_attempts=3
        )
        assert held is not None
        job = jobs.get_job(session, tenant_id=tenant.id, job_id=UUID(job_id))
        assert job is not None
        made: NewArtifact = tenant.artifact(
            job, f"weights-t={held.t:g}.safetensors", content, "application/octet-stream"
        )
        selections.finish(
            session, selection_id=held.id, attempt=held.attempt, figures={"clean_accuracy": 0.7}, artifact=made
        )


def test_another_t_is_made_on_request(tenant: Tenant, finished: str, api_settings: Settings) -> None:
    weights = f"/repair/{finished}/weights"
    missing = problem(tenant.http.get(weights, params={"t": 0.4}), 404, "selection-not-found")
    assert missing["selections"] in missing["detail"]

    made = tenant.http.post(missing["selections"], json={"t": 0.4})
    assert made.status_code == 202, made.text
    body = made.json()
    assert made.headers["location"] == body["links"]["self"]
    assert (body["state"], body["t"], body["figures"]) == ("queued", 0.4, None)
    with redis.Redis.from_url(api_settings.redis_url) as client:
        messages: Any = client.lrange(QUEUE, 0, -1)
    assert any(body["id"].encode() in message for message in messages)
    waiting = tenant.http.get(weights, params={"t": 0.4})
    assert problem(waiting, 409, "selection-not-finished")["selection"] == body["links"]["self"]

    export(tenant, finished, body["id"], b"other weights")
    assert tenant.http.get(weights, params={"t": 0.4}).content == b"other weights"
    assert tenant.http.get(body["links"]["weights"]).content == b"other weights"
    shown = tenant.http.get(body["links"]["self"])
    assert (shown.json()["state"], shown.json()["figures"]) == ("succeeded", {"clean_accuracy": 0.7})
    assert "retry-after" not in shown.headers
    assert tenant.http.get(f"/repair/{finished}/selections").json()["items"] == [shown.json()]


def test_the_chosen_t_needs_no_selection(tenant: Tenant, finished: str) -> None:
    assert tenant.http.get(f"/repair/{finished}/weights", params={"t": 0.25}).content == WEIGHTS


def test_the_same_t_is_made_once(tenant: Tenant, finished: str) -> None:
    first, again = (tenant.http.post(f"/repair/{finished}/selections", json={"t": 0.6}).json() for _ in range(2))
    assert first["id"] == again["id"]


def test_a_repeated_selection_with_its_key_is_answered_from_the_store(tenant: Tenant, finished: str) -> None:
    headers, address = {"Idempotency-Key": uuid4().hex}, f"/repair/{finished}/selections"
    first = tenant.http.post(address, json={"t": 0.6}, headers=headers)
    again = tenant.http.post(address, json={"t": 0.6}, headers=headers)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    problem(tenant.http.post(address, json={"t": 0.7}, headers=headers), 422, "idempotency-key-reused")


@pytest.mark.parametrize("t", [-0.1, 1.1, "half", None, "NaN"])
def test_t_lies_between_the_ends(tenant: Tenant, finished: str, t: Any) -> None:
    problem(tenant.http.post(f"/repair/{finished}/selections", json={"t": t}), 422, "invalid-request")
    if t is not None:
        problem(tenant.http.get(f"/repair/{finished}/weights", params={"t": t}), 422, "invalid-request")


def test_only_a_finished_job_has_other_points(tenant: Tenant, order: dict[str, Any]) -> None:
    job = tenant.http.post("/repair", json=order).json()["id"]
    problem(tenant.http.post(f"/repair/{job}/selections", json={"t": 0.5}), 409, "job-not-finished")
    tenant.http.post(f"/repair/{job}/cancel").raise_for_status()
    problem(tenant.http.post(f"/repair/{job}/selections", json={"t": 0.5}), 409, "job-has-no-result")
    assert tenant.http.get(f"/repair/{job}/selections").json() == {"items": []}


def test_a_selection_that_is_none_is_a_404(tenant: Tenant, finished: str) -> None:
    for name in (str(uuid4()), "no-uuid"):
        problem(tenant.http.get(f"/repair/{finished}/selections/{name}"), 404, "selection-not-found")


def test_a_picture_is_sent_as_one(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}/artifacts/trigger-0.png")
    assert (answer.headers["content-type"], answer.content) == ("image/png", png(1))
