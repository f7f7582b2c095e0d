"""Files that no row names go a day later; nothing that anybody needs, writes or has just written goes with them."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, update

from store import jobs, selections
from store.database import transaction, try_lock
from store.settings import Settings
from store.tables import Job, Tenant
from worker.orphans import collect
from worker.room import Room, make_room

DAY = 86_400.0


@pytest.fixture
def room(settings: Settings) -> Iterator[Room]:
    room = make_room(settings)
    yield room
    room.factory.kw["bind"].dispose()


@pytest.fixture
def put(room: Room) -> Any:
    """Store a file under this name."""

    def put(name: str) -> str:
        with room.storage.new_writer(name) as writer:
            writer.write(b"x")
            writer.commit()
        return name

    return put


def stored(room: Room) -> set[str]:
    return {name for folder in room.storage.folders() for name in room.storage.files(folder, after=0, before=1e12)}


def collect_tomorrow(room: Room, *, days: float = 1.5) -> None:
    collect(room, now=time.time() + days * DAY)


@pytest.fixture
def finished(bench: Any, put: Any) -> UUID:
    """A job that succeeded in its first attempt, with one file."""
    job_id: UUID = bench.post(send=False)
    with transaction(bench.factory) as session:
        jobs.claim(session, job_id=job_id, worker="w", lease_seconds=60, max_attempts=3)
        path = put(f"jobs/{job_id}/1/path.safetensors")
        made = jobs.NewArtifact(name="path.safetensors", path=path, bytes=1, sha256="x", media_type="x")
        jobs.finish(session, job_id=job_id, attempt=1, result={}, artifacts=[made])
    return job_id


def test_what_no_row_names_goes_and_the_rest_stays(bench: Any, room: Room, put: Any, finished: UUID) -> None:
    needed = stored(room)
    orphans = {
        put(f"files/{bench.tenant_id}/{uuid4()}/canonical.npz"),
        put(f"jobs/{uuid4()}/1/repaired.safetensors"),
        put(f"jobs/{finished}/1/unnamed.png"),
        put(f"jobs/{finished}/2/path.safetensors"),
    }
    collect_tomorrow(room)
    assert stored(room) == needed
    assert needed.isdisjoint(orphans)


def test_what_has_just_been_written_waits_for_its_row(bench: Any, room: Room, put: Any) -> None:
    name = put(f"files/{bench.tenant_id}/{uuid4()}/canonical.npz")
    collect_tomorrow(room, days=0.5)
    assert name in stored(room)


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
def test_a_job_that_has_not_ended_keeps_its_files(bench: Any, room: Room, put: Any, state: str) -> None:
    job_id = bench.post(send=False)
    with transaction(room.factory) as session:
        session.execute(update(Job).where(Job.id == job_id).values(state=state, attempt=2))
    names = {put(f"jobs/{job_id}/1/checkpoint"), put(f"jobs/{job_id}/2/repaired.safetensors")}
    collect_tomorrow(room)
    assert names <= stored(room)


def test_a_selection_that_runs_keeps_its_files(bench: Any, room: Room, put: Any, finished: UUID) -> None:
    with transaction(room.factory) as session:
        row = selections.create(session, tenant_id=bench.tenant_id, job_id=finished, t=0.5, max_queued=9)
        assert row is not None
        selections.claim(session, selection_id=row.id, worker="w", lease_seconds=60, max_attempts=3)
    name = put(f"jobs/{finished}/selection-{row.id}-1/weights-t=0.5.safetensors")
    collect_tomorrow(room)
    assert name in stored(room)
    with transaction(room.factory) as session:
        selections.fail(session, selection_id=row.id, attempt=1, problem={})
    collect_tomorrow(room)
    assert name not in stored(room)


def test_files_from_before_the_database_are_another_database_s(bench: Any, room: Room, put: Any) -> None:
    """Workers pointed at the wrong, empty database must not clear the storage."""
    name = put(f"jobs/{uuid4()}/1/repaired.safetensors")
    with transaction(room.factory) as session:
        session.execute(update(Tenant).values(created_at=func.clock_timestamp()))
    collect_tomorrow(room)
    assert name in stored(room)


def test_folders_that_are_left_empty_go_in_a_later_round(bench: Any, room: Room, put: Any) -> None:
    folder = f"jobs/{uuid4()}"
    put(f"{folder}/1/repaired.safetensors")
    collect_tomorrow(room)
    collect_tomorrow(room)
    assert folder not in set(room.storage.folders())


def test_only_one_worker_collects_at_a_time(bench: Any, room: Room, put: Any) -> None:
    name = put(f"jobs/{uuid4()}/1/repaired.safetensors")
    with transaction(room.factory) as session:
        assert try_lock(session, "orphans")
        collect_tomorrow(room)
    assert name in stored(room)
