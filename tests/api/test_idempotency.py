"""A POST that is sent again with its Idempotency-Key happens once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.conftest import Tenant, problem


def test_a_repeated_post_with_its_key_is_the_same_job(tenant: Tenant, order: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    first = tenant.http.post("/repair", json=order, headers=headers)
    again = tenant.http.post("/repair", json=order, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert tenant.jobs() == 1


def test_a_key_is_not_good_for_another_body_or_address(tenant: Tenant, order: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    job = tenant.http.post("/repair", json=order, headers=headers).json()
    other = tenant.http.post("/repair", json=order | {"labels": {"a": "b"}}, headers=headers)
    problem(other, 422, "idempotency-key-reused")
    problem(tenant.http.post(f"/repair/{job['id']}/cancel", headers=headers), 422, "idempotency-key-reused")
    assert tenant.jobs() == 1


def test_tenants_do_not_share_keys(tenant: Tenant, neighbour: Tenant, order: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    tenant.http.post("/repair", json=order, headers=headers).raise_for_status()
    problem(neighbour.http.post("/repair", json=order, headers=headers), 404, "file-not-found")


def test_many_posts_at_once_with_one_key_make_one_job(tenant: Tenant, order: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": uuid4().hex}

    def ask(_: int) -> httpx.Response:
        return tenant.http.post("/repair", json=order, headers=headers)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    done = [answer for answer in answers if answer.status_code == 202]
    for answer in answers:
        if answer not in done:
            problem(answer, 409, "idempotency-key-in-use")
            assert int(answer.headers["retry-after"]) > 0
    assert len({answer.json()["id"] for answer in done}) == 1
    assert tenant.jobs() == 1


def test_a_refused_post_leaves_its_key_free(tenant: Tenant, order: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    refused = tenant.http.post("/repair", json=order | {"architecture": "nothing_like_it"}, headers=headers)
    problem(refused, 422, "unknown-architecture")
    assert tenant.http.post("/repair", json=order, headers=headers).status_code == 202


@pytest.mark.parametrize("key", ["", "with space", "x" * 300])
def test_a_key_that_is_none_is_refused(tenant: Tenant, order: dict[str, Any], key: str) -> None:
    answer = tenant.http.post("/repair", json=order, headers={"Idempotency-Key": key})
    assert problem(answer, 422, "invalid-request")["errors"][0]["in"] == "header"
