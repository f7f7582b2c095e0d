"""A job can be cancelled, and its worker can leave, in every stage."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from store.tables import STAGES
from tests.worker.test_resume import outcome

REACHED = [stage for stage in STAGES if stage != "fitting_robust_path"]  # that one is an analysis's
HEARTBEATS = 8  # the watch looks at each; the rest is the end of a process on a busy machine


@pytest.fixture
def stops_in(bench: Any, tmp_path: Path) -> Any:
    """A function that makes jobs stand still, each time in the next of these stages, and one that waits for it."""

    def prepare(stages: list[str]) -> Any:
        bench.environment |= {
            "MODECONN_FAILPOINTS": ",".join(f"child.{stage}:stop" for stage in stages),
            "MODECONN_FAILPOINTS_ONCE": str(tmp_path / "once"),
            "MODECONN_CHECKPOINT_SECONDS": "0.01",
        }
        (tmp_path / "once").mkdir()
        return lambda stage: bench.wait_for((tmp_path / "once" / f"child.{stage}").exists, stage)

    return prepare


def test_a_job_is_cancelled_in_any_stage(bench: Any, stops_in: Any) -> None:
    stands_in = stops_in(REACHED)
    worker = bench.start_worker()
    for stage in REACHED:
        job_id = bench.post()
        stands_in(stage)
        bench.cancel(job_id)
        job = bench.wait_for_end(job_id)
        assert job.state == "cancelled", stage
        seconds = (job.finished_at - job.cancel_requested_at).total_seconds()
        print(f"cancelled in {stage} after {seconds:.2f} s")
        assert seconds < HEARTBEATS * bench.settings.heartbeat_seconds, stage
        assert worker.job_children() == [], stage
        assert bench.files_of(job_id) == set(), stage


def test_workers_leave_in_stage_after_stage_and_the_last_one_ends_the_job(bench: Any, stops_in: Any) -> None:
    undisturbed = _alone(bench)
    stages = ["scanning", "fitting_path", "exporting"]
    stands_in = stops_in(stages)
    job_id = bench.post()
    for stage in stages:
        leaving = bench.start_worker()
        stands_in(stage)
        leaving.process.terminate()
        assert leaving.process.wait(30) == 0
        job = bench.job(job_id)
        assert (job.state, job.attempt - job.releases, job.lease_until) == ("queued", 0, None), stage
    bench.start_worker()
    bench.wait_for_end(job_id)
    assert outcome(bench, job_id) == outcome(bench, undisturbed)


def _alone(bench: Any) -> UUID:
    """A job that ends undisturbed; its worker is gone when this returns."""
    worker = bench.start_worker()
    job_id: UUID = bench.post()
    bench.wait_for_end(job_id)
    worker.kill_9()
    return job_id
