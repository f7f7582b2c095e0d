"""An analysis job, from its row to its files: the child's work called directly, and the whole way by a real worker."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from store import jobs, queue
from store.database import transaction
from worker import analysis
from worker.problems import JobProblem


@pytest.fixture
def post(bench: Any) -> Any:
    """Posts an analysis as `POST /analysis` does: the suspect and a noisy copy of it."""

    def post(*, send: bool = False, images: int = 48, robust: UUID | None = None, **changes: Any) -> UUID:
        state = bench.suspect.state_dict()
        other = {name: tensor * 1.05 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        request = {
            "architecture": {"name": "colour_net", "options": {"width": 6}, "num_classes": 3},
            "preprocessing": {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.3, 0.35], "size": None, "channels": "RGB"},
            "classes": bench.classes,
            "method": {
                "curve": "bezier",
                "bends": 1,
                "steps": 4,
                "mirror": True,
                "seed": 7,
                "align": True,
                "points": 3,
                "robust_path": True,
                "max_images": 12,
            },
            "pgd": {"epsilon": 0.03, "steps": 2, "step_size": 0.02, "random_start": True, "norm": "linf"},
            "eigenvalues": {"iterations": 3, "tolerance": 0.001, "images": 4},
            "accept_low_accuracy": False,
        } | changes
        clean = bench.add_images("clean", *bench.images(images), bench.classes)
        with transaction(bench.factory) as session:
            job = jobs.create_job(
                session,
                kind="analysis",
                tenant_id=bench.tenant_id,
                request=request,
                suspect_file_id=bench.add_model(state),
                clean_file_id=clean,
                second_file_id=robust or bench.add_model(other),
                labels={},
                seed=7,
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
    return partial(run_here, analysis)


def test_files_figures_and_points_come_out(post: Any, run: Any) -> None:
    ended, messages = run(post())
    assert [one["name"] for one in ended["artifacts"]] == [
        "path.safetensors",
        "robust-path.safetensors",
        "report.html",
        "report.json",
        "losses.png",
        "eigenvalues.png",
        "manifest.json",
    ]
    assert [path["path"] for path in ended["result"]["paths"]] == ["standard", "robust"]
    points = [message["point"] for message in messages if message["kind"] == "point"]
    assert [(point["path"], point["t"]) for point in points] == [
        (path, t) for path in ("standard", "robust") for t in (0.0, 0.5, 1.0)
    ]
    assert any("hardly more robust" in warning for warning in ended["result"]["warnings"])


def test_what_was_not_asked_for_is_not_made(post: Any, run: Any) -> None:
    method = {"curve": "bezier", "bends": 1, "steps": 2, "mirror": True, "seed": 7, "align": False, "points": 3}
    ended, _ = run(post(method=method | {"robust_path": False, "max_images": 12}, eigenvalues=None))
    names = [one["name"] for one in ended["artifacts"]]
    assert "robust-path.safetensors" not in names
    assert "eigenvalues.png" not in names


def test_a_regular_model_that_does_badly_is_named(post: Any, run: Any) -> None:
    with pytest.raises(JobProblem, match="The regular model gets"):
        run(post(classes=["green", "red", "blue"]))


def test_a_robust_model_that_does_badly_is_named(post: Any, run: Any, bench: Any) -> None:
    state = bench.suspect.state_dict()
    other_classes = state | {name: state[name].roll(1, 0) for name in ("classifier.weight", "classifier.bias")}
    with pytest.raises(JobProblem, match="The robust model gets"):
        run(post(robust=bench.add_model(other_classes)))


def test_low_accuracy_can_be_accepted_and_both_models_are_warned_of(post: Any, run: Any) -> None:
    ended, _ = run(post(classes=["green", "red", "blue"], accept_low_accuracy=True, eigenvalues=None))
    for name in ("regular", "robust"):
        assert any(f"The {name} model gets" in warning for warning in ended["result"]["warnings"])


def test_too_few_images_are_a_problem_and_not_a_crash(post: Any, run: Any) -> None:
    with pytest.raises(JobProblem, match="too few") as refused:
        run(post(images=6))
    assert refused.value.body["type"] == "/problems/input-not-usable"


def test_a_worker_does_it_and_the_database_has_it_all(bench: Any, post: Any) -> None:
    bench.start_worker()
    job_id = post(send=True)
    job = bench.wait_for_end(job_id)
    assert job.state == "succeeded", job.problem
    with transaction(bench.factory) as session:
        points = jobs.analysis_points(session, tenant_id=bench.tenant_id, job_id=job_id)
        assert len(points) == 6
        assert all(point.robust_error_low < point.robust_error_high for point in points)
    assert job.result["paths"][0]["clean_barrier"]["height"] >= 0
    assert "report.html" in bench.artifacts(job_id)
