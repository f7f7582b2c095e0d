"""A job that is interrupted goes on from its checkpoint, and ends as an undisturbed one, bit for bit."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests import scale

STEPS = (
    "child.validating",
    "child.scanning",
    "child.fitting_path",
    "child.checkpoint",
    "child.sweeping",
    "child.selecting",
    "child.exporting",
    "worker.done",
)


@pytest.fixture
def hasty(bench: Any, tmp_path: Any) -> Any:
    """The bench, its workers' checkpoints as frequent as can be."""
    bench.environment |= {
        "MODECONN_CHECKPOINT_SECONDS": "0.01",
        "MODECONN_HEARTBEAT_SECONDS": "0.3",
        "MODECONN_LEASE_SECONDS": "1.5",
        "MODECONN_SWEEP_SECONDS": "0.3",
    }
    return bench


def outcome(bench: Any, job_id: UUID) -> tuple[str, Any, Any]:
    """What must not depend on interruptions: the weights' digest, t, the figures."""
    job = bench.job(job_id)
    assert job.state == "succeeded", job.problem
    return bench.artifacts(job_id)["repaired.safetensors"].sha256, job.result["t"], job.result["after"]


@pytest.mark.parametrize("rounds", scale.RESUMES)
def test_killed_at_every_step_in_turn_it_ends_as_if_nothing_had_happened(
    hasty: Any, tmp_path: Path, rounds: int
) -> None:
    model = hasty.add_model(hasty.suspect.state_dict())
    clean = hasty.add_images("clean", *hasty.images(48, seed=2), hasty.classes)
    hasty.start_worker()
    undisturbed = hasty.post(model=model, clean=clean)
    hasty.wait_for_end(undisturbed)
    hasty.workers[-1].kill_9()
    attempts = len(STEPS) + 1
    hasty.environment |= {
        "MODECONN_FAILPOINTS": ",".join(f"{step}:kill" for step in STEPS),
        "MODECONN_MAX_ATTEMPTS": str(attempts),
    }
    for number in range(rounds):
        once = tmp_path / f"once-{number}"
        once.mkdir()
        hasty.environment["MODECONN_FAILPOINTS_ONCE"] = str(once)
        first = hasty.start_worker()
        job_id = hasty.post(model=model, clean=clean)
        hasty.wait_for(lambda worker=first: worker.process.poll() is not None, "the worker's death in the last step")
        second = hasty.start_worker()
        hasty.wait_for_end(job_id)
        assert {file.name for file in once.iterdir()} >= set(STEPS), "every step must have been reached"
        assert hasty.job(job_id).attempt == attempts
        assert outcome(hasty, job_id) == outcome(hasty, undisturbed)
        assert hasty.files_of(job_id) == {str(attempts)}
        second.kill_9()


def test_a_damaged_checkpoint_costs_time_and_nothing_else(hasty: Any, tmp_path: Any) -> None:
    once = tmp_path / "once"
    once.mkdir()
    hasty.environment |= {"MODECONN_FAILPOINTS": "child.sweeping:stop", "MODECONN_FAILPOINTS_ONCE": str(once)}
    worker = hasty.start_worker()
    job_id = hasty.post()
    hasty.wait_for(lambda: bool(list(once.iterdir())), "the sweep")
    [child] = worker.job_children()
    file = hasty.settings.storage_root / "jobs" / str(job_id) / "1" / "checkpoint"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    child.kill()
    assert hasty.wait_for_end(job_id).state == "succeeded"
    assert "damaged" in hasty.logs()
