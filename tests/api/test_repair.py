"""Posting a job: what is queued, what is filled in, what is refused."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis

from store.queue import QUEUE
from store.settings import Settings
from tests.api.conftest import CLASSES, MAX_QUEUED_JOBS, Sample, Tenant, model_bytes, post, problem, zip_of


def queued_messages(settings: Settings) -> list[str]:
    """Job ids in the messages that no worker has taken."""
    with redis.Redis.from_url(settings.redis_url) as client:
        raw: Any = client.lrange(QUEUE, 0, -1)
    return [json.loads(message)["headers"]["argsrepr"] for message in raw]


def test_a_posted_job_is_queued_and_sent(tenant: Tenant, order: dict[str, Any], api_settings: Settings) -> None:
    answer = post(tenant, order, labels={"model": "signs"})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/repair/{body['id']}" == body["links"]["self"]
    assert (body["state"], body["stage"], body["attempt"], body["result"]) == ("queued", None, 0, None)
    assert body["labels"] == {"model": "signs"}
    assert body["queue_position"] >= 1
    assert body["progress"]["fraction"] == 0
    shown = tenant.http.get(answer.headers["location"])
    assert shown.json() == body
    assert int(shown.headers["retry-after"]) > 0
    assert any(body["id"] in message for message in queued_messages(api_settings))


def test_the_worker_finds_every_default_filled_in(tenant: Tenant, order: dict[str, Any]) -> None:
    request = post(tenant, order).json()["request"]
    assert request["classes"] == CLASSES
    assert request["architecture"]["name"] == "preact_resnet18"
    assert request["architecture"]["options"]["width"] == 4
    assert request["architecture"]["num_classes"] == 3
    assert request["preprocessing"] == {"mean": [0, 0, 0], "std": [1, 1, 1], "size": None, "channels": "RGB"}
    assert request["criteria"] == {"max_accuracy_drop": 0.025, "max_attack_success_rate": 0.05}
    assert request["method"] == {
        "curve": "bezier",
        "bends": 1,
        "ends": "permuted",
        "steps": None,
        "mirror": True,
        "seed": 0,
        "plane": 0,
    }
    assert request["tampering"] == "backdoor"
    assert request["estimate_seconds"] > 0


def test_tampering_and_plane_reach_the_worker(tenant: Tenant, order: dict[str, Any]) -> None:
    answer = post(tenant, order, tampering="error_injection", method={"plane": 15})
    request = answer.json()["request"]
    assert (request["tampering"], request["method"]["plane"], request["method"]["bends"]) == ("error_injection", 15, 1)


def test_the_architecture_is_recognised(tenant: Tenant, order: dict[str, Any]) -> None:
    answer = post(tenant, order, architecture=None)
    assert answer.status_code == 202, answer.text
    assert answer.json()["architecture"] == {"name": "preact_resnet18", "options": {"width": 4}, "num_classes": 3}


def test_validate_only_says_what_would_run_and_starts_nothing(tenant: Tenant, order: dict[str, Any]) -> None:
    post(tenant, order).raise_for_status()
    answer = post(tenant, order, validate_only=True)
    assert answer.status_code == 200
    body = answer.json()
    assert body["valid"]
    assert body["architecture"]["name"] == "preact_resnet18"
    assert body["classes"] == CLASSES
    assert body["would_run"]["suspect"] == order["suspect"]
    assert body["estimate"]["seconds"] > 0
    assert body["queue"]["jobs_before"] >= 1
    assert tenant.jobs() == 1


def test_more_steps_and_more_images_are_estimated_to_take_longer(
    tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    more = str(tenant.add_file(sample("clean", "clean", b""), images=50_000).id)

    def seconds(**changes: Any) -> float:
        return float(post(tenant, order, validate_only=True, **changes).json()["estimate"]["seconds"])

    assert seconds() < seconds(method={"steps": 100_000})
    assert seconds() < seconds(clean=more)
    assert seconds() < seconds(method={"plane": 41})


def test_a_second_path_is_estimated_to_take_longer_and_no_scan_less(
    tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    twin = str(tenant.add_file(sample("twin", "model", model_bytes())).id)

    def seconds(**changes: Any) -> float:
        return float(post(tenant, order, validate_only=True, **changes).json()["estimate"]["seconds"])

    assert seconds() < seconds(second_model=twin)
    assert seconds(tampering="error_injection") < seconds()


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"criteria": {"max_accuracy_drop": 1.5}}, "#/criteria/max_accuracy_drop"),
    ({"criteria": {"max_attack_success_rate": -0.1}}, "#/criteria/max_attack_success_rate"),
    ({"method": {"curve": "spline"}}, "#/method/curve"),
    ({"method": {"bends": 0}}, "#/method/bends"),
    ({"method": {"steps": 0}}, "#/method/steps"),
    ({"method": {"seed": -1}}, "#/method/seed"),
    ({"method": {"plane": 2}}, "#/method/plane"),
    ({"method": {"plane": 42}}, "#/method/plane"),
    ({"tampering": "theft"}, "#/tampering"),
    ({"preprocessing": {"channels": "GRB"}}, "#/preprocessing/channels"),
    ({"preprocessing": {"size": [1, 32]}}, "#/preprocessing/size/0"),
    ({"labels": {"": "x"}}, "#/labels/"),
    ({"deadline_seconds": 0}, "#/deadline_seconds"),
    ({"classes": ["one"]}, "#/classes"),
    ({"clean": None}, "#/clean"),
    ({"colour": "red"}, "#/colour"),
    ({"method": {"epochs": 100}}, "#/method/epochs"),
]


@pytest.mark.parametrize(("changes", "pointer"), BAD_BODIES, ids=[pointer for _, pointer in BAD_BODIES])
def test_a_body_that_does_not_fit_is_pointed_at(
    tenant: Tenant, order: dict[str, Any], changes: dict[str, Any], pointer: str
) -> None:
    body = problem(post(tenant, order, **changes), 422, "invalid-request")
    assert any(place["pointer"].startswith(pointer) for place in body["errors"]), body
    assert tenant.jobs() == 0


def test_broken_json_is_named(tenant: Tenant) -> None:
    headers = {"Content-Type": "application/json"}
    problem(tenant.http.post("/repair", content=b'{"suspect": ', headers=headers), 400, "invalid-json")


def test_a_huge_json_body_is_cut_off(tenant: Tenant) -> None:
    answer = tenant.http.post("/repair", json={"suspect": "x" * (2 << 20)})
    problem(answer, 413, "body-too-large")
    assert answer.headers["connection"] == "close"


REFUSALS: list[tuple[dict[str, Any], int, str]] = [
    ({"architecture": "resnett18"}, 422, "unknown-architecture"),
    ({"architecture": {"name": "preact_resnet18", "options": {"width": 8}}}, 422, "tensors-do-not-match"),
    ({"architecture": {"name": "preact_resnet18", "options": {"colour": 8}}}, 422, "unknown-architecture"),
    ({"classes": ["bird", "cat", "dog", "frog"]}, 422, "class-count-does-not-match"),
    ({"classes": ["bird", "cat", "frog"]}, 422, "classes-do-not-match"),
    ({"classes": ["bird", "cat", "dog", "dog"]}, 422, "classes-do-not-match"),
    ({"preprocessing": {"mean": [0.5], "std": [0.5]}}, 422, "preprocessing-does-not-fit"),
    ({"preprocessing": {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]}}, 422, "preprocessing-does-not-fit"),
    ({"preprocessing": {"mean": [125.3, 123, 113.9], "std": [63, 62.1, 66.7]}}, 422, "preprocessing-does-not-fit"),
    ({"select_with_triggered": True}, 422, "triggered-set-missing"),
    ({"deadline_seconds": 10**9}, 422, "deadline-too-long"),
    ({"suspect": str(uuid4())}, 404, "file-not-found"),
    ({"suspect": "not an id"}, 404, "file-not-found"),
]


@pytest.mark.parametrize(("changes", "status", "slug"), REFUSALS)
def test_what_cannot_run_is_refused_and_leaves_nothing(
    tenant: Tenant, order: dict[str, Any], changes: dict[str, Any], status: int, slug: str
) -> None:
    problem(post(tenant, order, **changes), status, slug)
    assert tenant.jobs() == 0


def test_an_unknown_architecture_gets_the_nearest_names(tenant: Tenant, order: dict[str, Any]) -> None:
    body = problem(post(tenant, order, architecture="preact_resnet_18"), 422, "unknown-architecture")
    assert "preact_resnet18" in body["nearest"]


def test_wrong_tensors_are_named(tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]) -> None:
    facts = sample("suspect", "model", b"").facts
    without = [item for item in facts["tensors"] if item[0] != "conv1.weight"]
    order["suspect"] = str(tenant.add_file(sample("suspect", "model", b""), tensors=without).id)
    body = problem(post(tenant, order), 422, "tensors-do-not-match")
    assert "conv1.weight" in body["detail"]
    assert {"kind": "missing", "tensor": "conv1.weight"}.items() <= body["mismatches"][0].items()


def test_values_on_the_scale_of_bytes_are_answered_with_the_right_ones(tenant: Tenant, order: dict[str, Any]) -> None:
    wrong = {"mean": [127.5] * 3, "std": [63.75] * 3}
    body = problem(post(tenant, order, preprocessing=wrong), 422, "preprocessing-does-not-fit")
    assert "mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]" in body["detail"]


@pytest.mark.parametrize(("role", "other"), [("suspect", "clean"), ("clean", "triggered"), ("triggered", "clean")])
def test_a_file_of_another_kind_is_refused(
    tenant: Tenant, order: dict[str, Any], stock: dict[str, str], role: str, other: str
) -> None:
    body = problem(post(tenant, order, **{role: stock[other]}), 422, "wrong-file-kind")
    assert body["pointer"] == f"#/{role}"


def test_missing_folders_are_fine_when_the_classes_are_listed(
    tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    few = str(tenant.add_file(sample("two", "clean", zip_of(["dog", "bird"]))).id)
    refused = problem(post(tenant, order, clean=few), 422, "class-count-does-not-match")
    assert (refused["expected_classes"], refused["found_classes"]) == (3, 2)
    taken = post(tenant, order, clean=few, classes=["dog", "cat", "bird"])
    assert taken.json()["request"]["classes"] == ["dog", "cat", "bird"]


def test_class_ids_are_positions(tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]) -> None:
    clean = sample("clean", "clean", b"")
    sparse = str(tenant.add_file(clean, classes=[0, 2], per_class=[5, 10]).id)
    assert post(tenant, order, clean=sparse).json()["request"]["classes"] == ["0", "1", "2"]
    beyond = str(tenant.add_file(clean, classes=[0, 3], per_class=[5, 10]).id)
    problem(post(tenant, order, clean=beyond, classes=CLASSES), 422, "classes-do-not-match")


def test_triggered_folders_must_be_classes(
    tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    foreign = str(tenant.add_file(sample("foreign", "triggered", zip_of(["dog", "wolf"]))).id)
    body = problem(post(tenant, order, triggered=foreign), 422, "triggered-class-unknown")
    assert body["folders"] == ["wolf"]


def test_triggered_images_must_have_the_shape_of_the_clean_ones(
    tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    small = str(tenant.add_file(sample("small", "triggered", zip_of(["dog", "cat"], size=16))).id)
    body = problem(post(tenant, order, triggered=small), 422, "triggered-shape-differs")
    assert (body["clean"], body["triggered"]) == ([3, 32, 32], [3, 16, 16])


def test_a_job_may_choose_with_triggered_images(tenant: Tenant, order: dict[str, Any], stock: dict[str, str]) -> None:
    answer = post(tenant, order, triggered=stock["triggered"], select_with_triggered=True)
    assert answer.status_code == 202, answer.text


def test_a_second_model_must_be_another_of_the_same_make(
    tenant: Tenant, order: dict[str, Any], sample: Callable[..., Sample]
) -> None:
    twin = str(tenant.add_file(sample("twin", "model", model_bytes())).id)
    assert post(tenant, order, second_model=twin).status_code == 202
    problem(post(tenant, order, second_model=order["suspect"]), 422, "second-model-is-the-suspect")
    wider = str(tenant.add_file(sample("wider", "model", model_bytes(width=8))).id)
    body = problem(post(tenant, order, second_model=wider), 422, "second-model-differs")
    assert body["differing"][0]["tensor"] in body["detail"]


def test_a_full_queue_is_a_429(tenant: Tenant, order: dict[str, Any]) -> None:
    for _ in range(MAX_QUEUED_JOBS):
        assert post(tenant, order).status_code == 202
    refused = post(tenant, order)
    assert problem(refused, 429, "too-many-queued-jobs")["limit"] == MAX_QUEUED_JOBS
    assert int(refused.headers["retry-after"]) > 0
    assert tenant.jobs() == MAX_QUEUED_JOBS
