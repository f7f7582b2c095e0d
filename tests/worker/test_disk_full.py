"""A disk that is full while a job writes its files costs the attempt, and neither the worker nor the next job."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.database import transaction
from store.storage import UNFINISHED
from store.tables import Job
from tests.small_disk import fill, small_disk
from worker.child import WORK, _outcome
from worker.holding import job_spec

DISK_BYTES = 8 << 20


@pytest.fixture(autouse=True)
def disk(tmp_path: Path) -> Iterator[Path]:
    """The storage's folder, a small disk of its own; made before the storage is."""
    with small_disk(tmp_path / "storage", DISK_BYTES) as folder:
        yield folder


@pytest.mark.parametrize("kibibytes", [0, 8, 24, 48, 128])
def test_whatever_is_being_written_the_attempt_is_interrupted(
    disk: Path, bench: Any, plugged_in: None, kibibytes: int
) -> None:
    job_id = bench.post(send=False)
    with transaction(bench.factory) as session:
        spec = job_spec(session, session.get_one(Job, job_id), bench.settings)
    fill(disk, leave=kibibytes << 10)
    message = _outcome(WORK["repair"], spec, lambda message: None)
    assert message["kind"] == "interrupted", message
    assert "No space left on device" in message["reason"]
    assert list((disk / UNFINISHED).iterdir()) == [], "what was begun takes no room"


def test_a_worker_bears_a_full_disk(disk: Path, bench: Any) -> None:
    job_id = bench.post(send=False)
    filler = fill(disk, leave=0)
    worker = bench.start_worker()
    job = bench.wait_for_end(job_id)
    assert (job.state, job.attempt) == ("failed", 3)
    assert job.problem["type"] == "/problems/attempts-exhausted"
    assert "No space left on device" in job.problem["detail"]
    assert bench.files_of(job_id) == set()
    filler.unlink()
    assert bench.wait_for_end(bench.post()).state == "succeeded"
    assert worker.process.poll() is None
