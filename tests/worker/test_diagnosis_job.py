"""A diagnosis, from its row to its result: the child's work called directly, and the whole way by a real worker."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from store import jobs, queue
from store.database import transaction
from tests.worker.conftest import ARCHITECTURE, CLASSES, MEAN, STD
from worker import diagnosis
from worker.problems import JobProblem


@pytest.fixture
def post(bench: Any) -> Any:
    """Posts a diagnosis as `POST /diagnosis` does."""

    def post(*, send: bool = False, images: int = 60, **changes: Any) -> UUID:
        request = {
            "architecture": ARCHITECTURE,
            "preprocessing": {"mean": MEAN, "std": STD, "size": None, "channels": "RGB"},
            "classes": CLASSES,
        } | changes
        with transaction(bench.factory) as session:
            job = jobs.create_job(
                session,
                kind="diagnosis",
                tenant_id=bench.tenant_id,
                request=request,
                suspect_file_id=bench.add_model(bench.suspect.state_dict()),
                clean_file_id=bench.add_images("clean", *bench.images(images), bench.classes),
                labels={},
                seed=0,
                deadline=timedelta(hours=1),
                retention=timedelta(days=1),
                max_queued=10,
            )
            job_id = job.id
        if send:
            queue.send_job(bench.settings.redis_url, job_id)
        return job_id

    return post


@pytest.fixture
def run(run_here: Any) -> Any:
    return partial(run_here, diagnosis)


def test_a_model_that_is_fed_right_is_measured(post: Any, run: Any) -> None:
    ended, _ = run(post())
    result = ended["result"]
    assert (result["images"], result["suspicious"], result["suggestions"], result["warnings"]) == (60, False, [], [])
    low, high = result["accuracy_interval"]
    assert low < result["accuracy"] <= high + 1e-9
    assert result["accuracy"] > result["least_expected"] > result["chance"] == pytest.approx(1 / 3)
    assert 1 / 3 <= result["confidence"] <= 1
    assert ended["artifacts"] == []


def test_a_model_that_is_fed_wrong_is_measured_and_what_suits_it_is_said(post: Any, run: Any) -> None:
    right = run(post())[0]["result"]["accuracy"]
    result = run(post(preprocessing={"mean": MEAN[::-1], "std": STD[::-1], "size": None, "channels": "BGR"}))[0][
        "result"
    ]
    best = result["suggestions"][0]
    assert result["suspicious"]
    assert result["accuracy"] < result["least_expected"] < best["accuracy"]
    assert best["value"]["channels"] == "RGB" or best["value"]["order"]
    assert best["accuracy"] == pytest.approx(right, abs=0.15)
    assert best["description"] in result["warnings"][0]


def test_what_would_suit_a_model_better_is_warned_of_also_where_it_does_not_badly(
    post: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeconn_core.diagnosis.suspicion_threshold", lambda classes: 0.0)
    wrong = {"mean": MEAN[::-1], "std": STD[::-1], "size": None, "channels": "BGR"}
    [warning] = run(post(preprocessing=wrong))[0]["result"]["warnings"]
    assert "could do better. Set" in warning


def test_too_few_images_are_a_problem_and_not_a_crash(post: Any, run: Any) -> None:
    with pytest.raises(JobProblem, match="one image is too few") as refused:
        run(post(images=1))
    assert refused.value.body["type"] == "/problems/input-not-usable"


def test_a_worker_does_it_and_leaves_no_file(bench: Any, post: Any) -> None:
    bench.start_worker()
    job = bench.wait_for_end(post(send=True))
    assert job.state == "succeeded", job.problem
    assert job.result["accuracy"] > job.result["least_expected"]
    assert not any(path.is_file() for path in (bench.settings.storage_root / "jobs").rglob("*"))
