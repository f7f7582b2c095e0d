"""Quotas: exact under parallel posts, refused with problems that say what to do, and shown."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from store import tables
from store.database import transaction
from tests.api.conftest import CLASSES, MAX_QUEUED_JOBS, Tenant, post, problem, zip_of

POSTS = 200
QUOTA = 5


def limit(tenant: Tenant, **limits: int) -> None:
    """Give the tenant limits of its own, as an operator does."""
    with transaction(tenant.database) as session:
        session.execute(update(tables.Tenant).where(tables.Tenant.id == tenant.id).values(**limits))


def shown(tenant: Tenant) -> dict[str, Any]:
    answer: dict[str, Any] = tenant.http.get("/quota").raise_for_status().json()
    return answer


def together(tenant: Tenant, request: dict[str, Any]) -> Counter[int]:
    """Statuses of many requests at the same time."""
    pool_limits = httpx.Limits(max_connections=40)
    with (
        httpx.Client(
            base_url=tenant.http.base_url, headers=tenant.http.headers, timeout=120, limits=pool_limits
        ) as client,
        ThreadPoolExecutor(40) as threads,
    ):
        return Counter(threads.map(lambda _: client.request("POST", **request).status_code, range(POSTS)))


def test_of_many_parallel_posts_exactly_the_quota_is_queued(tenant: Tenant, order: dict[str, Any]) -> None:
    limit(tenant, max_queued_jobs=QUOTA)
    assert together(tenant, {"url": "/repair", "json": order}) == {202: QUOTA, 429: POSTS - QUOTA}
    assert tenant.jobs() == QUOTA
    assert shown(tenant)["queued_jobs"] == {"used": QUOTA, "limit": QUOTA}


def test_of_many_parallel_selections_exactly_the_quota_is_queued(tenant: Tenant, finished: str) -> None:
    limit(tenant, max_queued_jobs=QUOTA)
    with ThreadPoolExecutor(40) as threads:
        answers = threads.map(
            lambda n: tenant.http.post(f"/repair/{finished}/selections", json={"t": n / 100}).status_code, range(40)
        )
        assert Counter(answers) == {202: QUOTA, 429: 40 - QUOTA}


def test_stored_bytes_are_counted_as_they_are_stored_and_given_back(tenant: Tenant) -> None:
    assert shown(tenant)["stored_bytes"]["used"] == 0
    upload = tenant.http.post("/files?kind=clean", content=zip_of(CLASSES)).raise_for_status().json()
    used = shown(tenant)["stored_bytes"]["used"]
    decoded = len(CLASSES) * 5 * 3 * 32 * 32
    assert used == sum(path.stat().st_size for path in tenant.storage.root.glob(f"files/{tenant.id}/*/*"))
    assert used > decoded
    tenant.http.delete(f"/files/{upload['id']}").raise_for_status()
    assert shown(tenant)["stored_bytes"]["used"] == 0


def other_zip(number: int) -> bytes:
    """As large as the others when it is decoded, and not the same."""
    return zip_of([f"c{number}d", *CLASSES[1:]])


def test_an_upload_beyond_the_quota_leaves_nothing(tenant: Tenant) -> None:
    tenant.http.post("/files?kind=clean", content=zip_of(CLASSES)).raise_for_status()
    used = int(shown(tenant)["stored_bytes"]["used"])
    for most in (used, 2 * used - 1):  # refused before and after the conversion
        limit(tenant, max_stored_bytes=most)
        refused = tenant.http.post("/files?kind=clean", content=other_zip(1))
        body = problem(refused, 403, "storage-quota-exceeded")
        assert (body["limit_bytes"], body["stored_bytes"]) == (most, used)
        assert len(list(tenant.storage.root.glob(f"files/{tenant.id}/*"))) == 1
    limit(tenant, max_stored_bytes=2 * used)
    assert tenant.http.post("/files?kind=clean", content=other_zip(1)).status_code == 201


def test_parallel_uploads_cannot_pass_the_quota_together(tenant: Tenant) -> None:
    tenant.http.post("/files?kind=clean", content=zip_of(CLASSES)).raise_for_status()
    limit(tenant, max_stored_bytes=3 * int(shown(tenant)["stored_bytes"]["used"]))
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(
            lambda number: tenant.http.post("/files?kind=clean", content=other_zip(number)).status_code, range(8)
        )
        assert Counter(answers) == {201: 2, 403: 6}


def test_whoever_has_computed_enough_waits(tenant: Tenant, order: dict[str, Any]) -> None:
    job_id = post(tenant, order).raise_for_status().json()["id"]
    tenant.claim(job_id)
    assert shown(tenant)["running_jobs"]["used"] == 1
    assert shown(tenant)["compute_seconds"]["used"] > 0
    limit(tenant, max_compute_seconds=0)
    for address, body in (("/repair", order), ("/repair", order | {"validate_only": True})):
        refused = tenant.http.post(address, json=body)
        assert problem(refused, 429, "compute-quota-exceeded")["limit_seconds"] == 0
        assert int(refused.headers["retry-after"]) > 0
    limit(tenant, max_compute_seconds=1_000_000)
    assert post(tenant, order).status_code == 202


@pytest.mark.parametrize("name", ["stored_bytes", "queued_jobs", "running_jobs", "compute_seconds"])
def test_a_tenant_without_limits_of_its_own_has_those_of_the_service(tenant: Tenant, name: str) -> None:
    assert shown(tenant)[name]["limit"] > 0
    assert shown(tenant)["queued_jobs"]["limit"] == MAX_QUEUED_JOBS
    limit(tenant, **{f"max_{name}": 3})
    assert shown(tenant)[name]["limit"] == 3
