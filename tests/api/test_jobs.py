"""Showing, listing, cancelling and retrying jobs."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from store import jobs
from store.database import transaction
from tests.api.conftest import Tenant, post, problem
from tests.api.results import point


def test_a_job_that_has_not_changed_is_a_304(tenant: Tenant, order: dict[str, Any]) -> None:
    job = post(tenant, order).json()["id"]
    etag = tenant.http.get(f"/repair/{job}").headers["etag"]
    same = tenant.http.get(f"/repair/{job}", headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    tenant.claim(job)
    changed = tenant.http.get(f"/repair/{job}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["state"], changed.json()["queue_position"]) == (200, "running", None)
    assert changed.headers["etag"] != etag


def test_progress_and_the_curve_are_shown_while_it_runs(tenant: Tenant, order: dict[str, Any]) -> None:
    job_id = post(tenant, order).json()["id"]
    job = tenant.claim(job_id)
    progress = {"stage": "sweeping", "fraction": 0.7, "stage_fraction": 0.5, "seconds_left": 9.5, "numbers": {"t": 0.2}}
    with transaction(tenant.database) as session:
        jobs.record_progress(session, job_id=job.id, attempt=job.attempt, progress=progress, event="progress")
        jobs.record_points(
            session, job_id=job.id, attempt=job.attempt, points=[point(0.5), point(0.0), point(0.7, "unaligned")]
        )
    shown = tenant.http.get(f"/repair/{job_id}")
    assert (shown.json()["stage"], shown.json()["progress"]) == ("sweeping", progress)
    assert int(shown.headers["retry-after"]) > 0
    curve = tenant.http.get(f"/repair/{job_id}/curve").json()
    assert curve["chosen_t"] is None
    assert [item["t"] for item in curve["points"]] == [0.0, 0.5]
    assert [item["t"] for item in curve["unaligned"]] == [0.7]
    assert curve["points"][0]["clean_accuracy_interval"] == [0.7, 0.9]
    assert curve["points"][0]["attack_success_rate_interval"] is None


def test_a_finished_job_shows_its_result(tenant: Tenant, finished: str) -> None:
    answer = tenant.http.get(f"/repair/{finished}")
    body = answer.json()
    assert (body["state"], body["result"]["t"], body["result"]["criteria_met"]) == ("succeeded", 0.25, True)
    assert body["result"]["before"]["attack_success_rate"] == 1.0
    assert body["warnings"] == ["the clean set is small"]
    assert body["expires_at"] > body["finished_at"]
    assert "retry-after" not in answer.headers
    assert tenant.http.get(f"/repair/{finished}/curve").json()["chosen_t"] == 0.25


def test_a_repair_may_show_its_alignment_and_a_plane(tenant: Tenant, order: dict[str, Any], finished: str) -> None:
    without = tenant.http.get(f"/repair/{finished}").json()["result"]
    assert (without["alignment"], without["plane"]) == (None, None)
    job = tenant.claim(post(tenant, order).json()["id"])
    grid = [[0.1, 0.2], [0.3, 0.4]]
    plane = {
        "x": [0.0, 1.0],
        "y": [-0.5, 0.5],
        "accuracy": grid,
        "attack": None,
        "attack_measured": False,
        "bends": [[0.5, 0.5]],
        "path": [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]],
        "chosen": [0.2, 0.1],
    }
    tenant.finish(job, [], alignment="Matched.", plane=plane)
    result = tenant.http.get(f"/repair/{job.id}").json()["result"]
    assert (result["alignment"], result["plane"]) == ("Matched.", plane)


def test_jobs_are_listed_newest_first_in_pages(tenant: Tenant, order: dict[str, Any]) -> None:
    made = [post(tenant, order).json()["id"] for _ in range(3)]
    first = tenant.http.get("/repair", params={"limit": 2}).json()
    late = post(tenant, order).json()["id"]
    second = tenant.http.get("/repair", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next"] is None
    assert tenant.http.get("/repair").json()["items"][0]["id"] == late


def test_the_list_can_be_filtered(tenant: Tenant, order: dict[str, Any]) -> None:
    red = post(tenant, order, labels={"colour": "red:ish", "x": "y"}).json()["id"]
    blue = post(tenant, order, labels={"colour": "blue"}).json()["id"]
    tenant.http.post(f"/repair/{blue}/cancel").raise_for_status()

    def listed(**params: str) -> list[str]:
        return [item["id"] for item in tenant.http.get("/repair", params=params).json()["items"]]

    assert listed(label="colour:red:ish") == [red]
    assert listed(state="cancelled") == [blue]
    assert listed(state="queued", label="colour:blue") == []


@pytest.mark.parametrize(
    ("params", "status", "slug"),
    [
        ({"cursor": "!!"}, 400, "invalid-cursor"),
        ({"cursor": "bm90IG91cnM="}, 400, "invalid-cursor"),
        ({"state": "sleeping"}, 422, "invalid-request"),
        ({"label": "novalue"}, 422, "invalid-request"),
        ({"limit": "0"}, 422, "invalid-request"),
    ],
)
def test_a_list_that_cannot_be(tenant: Tenant, params: dict[str, str], status: int, slug: str) -> None:
    problem(tenant.http.get("/repair", params=params), status, slug)


def test_a_queued_job_is_cancelled_at_once_and_can_be_retried(tenant: Tenant, order: dict[str, Any]) -> None:
    job = post(tenant, order, labels={"a": "b"}).json()
    problem(tenant.http.post(f"/repair/{job['id']}/retry"), 409, "job-cannot-be-retried")
    cancelled = tenant.http.post(f"/repair/{job['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert tenant.http.post(f"/repair/{job['id']}/cancel").json()["state"] == "cancelled"
    again = tenant.http.post(f"/repair/{job['id']}/retry")
    assert again.status_code == 202
    new = again.json()
    assert again.headers["location"] == f"/repair/{new['id']}"
    assert (new["state"], new["retried_from"], new["labels"]) == ("queued", job["id"], {"a": "b"})
    assert new["request"] == job["request"]


def test_a_running_job_is_cancelling(tenant: Tenant, order: dict[str, Any]) -> None:
    job = post(tenant, order).json()["id"]
    tenant.claim(job)
    assert tenant.http.post(f"/repair/{job}/cancel").json()["state"] == "cancelling"


def test_a_job_that_succeeded_cannot_be_cancelled_or_retried(tenant: Tenant, finished: str) -> None:
    assert problem(tenant.http.post(f"/repair/{finished}/cancel"), 409, "job-already-ended")["state"] == "succeeded"
    problem(tenant.http.post(f"/repair/{finished}/retry"), 409, "job-cannot-be-retried")


def test_a_failed_job_says_why(tenant: Tenant, order: dict[str, Any]) -> None:
    job_id = post(tenant, order).json()["id"]
    job = tenant.claim(job_id)
    why = {"type": "/problems/attempts-exhausted", "title": "Lost", "detail": "The worker ran out of memory."}
    with transaction(tenant.database) as session:
        jobs.fail(session, job_id=job.id, attempt=job.attempt, problem=why)
    shown = tenant.http.get(f"/repair/{job_id}").json()
    assert (shown["state"], shown["problem"]) == ("failed", why)
    assert problem(tenant.http.post(f"/repair/{job_id}/cancel"), 409, "job-already-ended")["state"] == "failed"
    assert tenant.http.get(why["type"]).status_code == 200


def test_a_retry_needs_the_files(tenant: Tenant, order: dict[str, Any]) -> None:
    job = post(tenant, order).json()["id"]
    tenant.http.post(f"/repair/{job}/cancel").raise_for_status()
    tenant.http.delete(f"/files/{order['clean']}").raise_for_status()
    problem(tenant.http.post(f"/repair/{job}/retry"), 404, "file-not-found")
    assert tenant.jobs() == 1


def test_a_retry_with_a_key_happens_once(tenant: Tenant, order: dict[str, Any]) -> None:
    job = post(tenant, order).json()["id"]
    tenant.http.post(f"/repair/{job}/cancel").raise_for_status()
    headers = {"Idempotency-Key": uuid4().hex}
    first, again = (tenant.http.post(f"/repair/{job}/retry", headers=headers).json() for _ in range(2))
    assert UUID(first["id"]) == UUID(again["id"])
    assert tenant.jobs() == 2
