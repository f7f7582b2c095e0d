"""Cancel and SIGTERM in the midst of each stage: the child stands still there, and answers to nobody."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from store.database import transaction
from tests.worker.test_resume import outcome

STAGES = ("validating", "scanning", "preparing_ends", "fitting_path", "sweeping", "selecting", "exporting")
pytestmark = pytest.mark.timeout(900)  # many jobs, one after the other
LEASE = 60.0  # seconds; what takes less was the worker's own doing, not that of a sweep after the lease


@pytest.fixture
def stand_still(bench: Any, tmp_path: Path) -> Callable[[str], Path]:
    """Makes the next child that comes to a stage stop there; the file that it gives is there when that has happened."""
    once = tmp_path / "once"
    once.mkdir()
    for stage in STAGES:
        (once / f"child.{stage}").touch()
    bench.environment |= {
        "MODECONN_FAILPOINTS": ",".join(f"child.{stage}:stop" for stage in STAGES),
        "MODECONN_FAILPOINTS_ONCE": str(once),
        "MODECONN_LEASE_SECONDS": str(LEASE),
    }

    def at(stage: str) -> Path:
        (once / f"child.{stage}").unlink()
        return once / f"child.{stage}"

    return at


def database_clock(bench: Any) -> datetime:
    with transaction(bench.factory) as session:
        now: datetime = session.scalar(select(func.clock_timestamp()))
        return now


def test_a_job_is_cancelled_in_every_stage(bench: Any, stand_still: Callable[[str], Path]) -> None:
    model = bench.add_model(bench.suspect.state_dict())
    clean = bench.add_images("clean", *bench.images(48, seed=2), bench.classes)
    worker = bench.start_worker()
    for stage in STAGES:
        reached = stand_still(stage)
        job_id = bench.post(model=model, clean=clean)
        bench.wait_for(reached.exists, stage)
        [child] = worker.job_children()
        bench.cancel(job_id)
        job = bench.wait_for_end(job_id)
        assert (job.state, job.attempt) == ("cancelled", 1), stage
        took = (job.finished_at - job.cancel_requested_at).total_seconds()
        assert took < LEASE, stage
        assert not child.is_running(), stage
        bench.wait_for(lambda job_id=job_id: bench.files_of(job_id) == set(), "the end of its files")
        print(f"cancelled in {stage}: {took:.2f} s")


def test_a_worker_told_to_leave_in_any_stage_hands_its_job_on_and_the_result_is_the_same(
    bench: Any, stand_still: Callable[[str], Path]
) -> None:
    bench.environment["MODECONN_CHECKPOINT_SECONDS"] = "0.01"
    model = bench.add_model(bench.suspect.state_dict())
    clean = bench.add_images("clean", *bench.images(48, seed=2), bench.classes)
    leaving = bench.start_worker()
    undisturbed: UUID = bench.post(model=model, clean=clean)
    bench.wait_for_end(undisturbed)
    for stage in ("scanning", "fitting_path", "exporting"):
        reached = stand_still(stage)
        job_id = bench.post(model=model, clean=clean)
        bench.wait_for(reached.exists, stage)
        told = database_clock(bench)
        leaving.process.terminate()
        assert leaving.process.wait(30) == 0, stage
        took = (database_clock(bench) - told).total_seconds()
        job = bench.job(job_id)
        assert (job.state, job.attempt, job.releases, job.lease_until) == ("queued", 1, 1, None), stage
        leaving = bench.start_worker()
        bench.wait_for_end(job_id)
        assert bench.job(job_id).attempt == 2
        assert outcome(bench, job_id) == outcome(bench, undisturbed), stage
        print(f"left in {stage}: {took:.2f} s")
