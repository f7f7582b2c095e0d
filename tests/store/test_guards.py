"""Each guard matters: the same scenario goes well with it and visibly wrong without it."""

import hashlib
from collections.abc import Callable
from typing import Any, BinaryIO
from uuid import UUID

import pytest
import redis
from hypothesis import Phase
from sqlalchemy import select
from sqlalchemy.orm import Session

from store import checked, job_runs, jobs
from store.database import SessionFactory, transaction
from store.errors import StaleFence, StorageCorrupt
from store.queue import QUEUE
from store.settings import Settings
from store.storage import LocalStorage
from store.tables import IS_HELD, Job
from tests.damage import flip_bit
from tests.store.test_state_machine import Jobs, exercise
from worker import housekeeping
from worker.inputs import verified
from worker.problems import JobProblem
from worker.room import make_room
from worker.spec import InputRef

Remove = Callable[[pytest.MonkeyPatch], None]
guarded = pytest.mark.parametrize("guard", ["in place", "removed"])


def expect(wrongs: list[str], guard: str, *, without: int) -> None:
    """Nothing goes wrong with the guard; so many things do without it."""
    assert len(wrongs) == (0 if guard == "in place" else without), wrongs


# -- the fence


def without_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever says that it holds a job is believed."""

    def held(session: Session, job_id: UUID, attempt: int) -> Job:
        job = session.scalar(select(Job).where(Job.id == job_id, IS_HELD).with_for_update(key_share=True))
        if job is None:
            raise StaleFence(job_id, attempt)
        return job

    patch.setattr(job_runs, "_held", held)


@guarded
def test_the_fence_keeps_out_a_worker_that_slept(
    guard: str, monkeypatch: pytest.MonkeyPatch, factory: SessionFactory, running_job: Job, claim: Any, let_pass: Any
) -> None:
    if guard == "removed":
        without_fence(monkeypatch)
    let_pass(running_job.id, "lease_until")
    assert claim(running_job.id).attempt == 2, "another worker has it"
    wrongs = []
    writes: dict[Callable[..., Any], dict[str, Any]] = {
        jobs.record_warning: {"data": {"detail": "I was asleep"}},
        jobs.finish: {"result": {"t": 0.1}, "artifacts": []},
    }
    for write, values in writes.items():
        try:
            with transaction(factory) as session:
                write(session, job_id=running_job.id, attempt=1, **values)
            wrongs.append(f"{write.__name__} of attempt 1 was believed")
        except StaleFence:
            pass
    expect(wrongs, guard, without=2)


# -- the lease


def without_lease(patch: pytest.MonkeyPatch) -> None:
    """A job that is held is as free as one whose holder was lost."""
    patch.setattr(job_runs, "IS_LOST", IS_HELD)


@guarded
def test_the_lease_keeps_a_second_worker_from_a_job_that_is_held(
    guard: str, monkeypatch: pytest.MonkeyPatch, running_job: Job, claim: Any
) -> None:
    if guard == "removed":
        without_lease(monkeypatch)
    second = claim(running_job.id)  # as after a message that came twice
    expect([f"attempt {second.attempt} works beside attempt 1"] if second else [], guard, without=1)


@pytest.mark.parametrize("remove", [without_fence, without_lease])
def test_the_state_machine_notices_a_guard_that_is_gone(
    remove: Remove, monkeypatch: pytest.MonkeyPatch, factory: SessionFactory, tenant_id: UUID, make_job: Any
) -> None:
    remove(monkeypatch)
    with pytest.raises(AssertionError):
        exercise(lambda: Jobs(factory, tenant_id, make_job), steps=500, phases=[Phase.generate])


# -- the digest


def without_digests(patch: pytest.MonkeyPatch) -> None:
    """What lies in the storage is taken for what was stored."""

    def only_pieces(name: str, file: BinaryIO, sha256: str) -> list[bytes]:
        return [hashlib.sha256(piece).digest() for piece in iter(lambda: file.read(checked.PIECE_BYTES), b"")]

    patch.setattr(LocalStorage, "verify", lambda storage, name, sha256: storage.path(name))
    patch.setattr(checked, "_checked", only_pieces)


@guarded
def test_the_digest_keeps_damaged_bytes_from_workers_and_users(
    guard: str, monkeypatch: pytest.MonkeyPatch, storage: LocalStorage
) -> None:
    if guard == "removed":
        without_digests(monkeypatch)
    with storage.new_writer("files/x/y/canonical.npz") as writer:
        writer.write(b"images" * 1000)
        stored = writer.commit()
    flip_bit(storage.path(stored.name), 4321)
    ref = InputRef(name="x", bytes=1, sha256="", canonical_path=stored.name, canonical_sha256=stored.sha256, facts={})
    readers: dict[str, Callable[[], object]] = {
        "a worker": lambda: verified(storage, ref),
        "a user": lambda: list(checked.CheckedFiles(storage).open(stored.name, stored.sha256).read(0, 10)),
    }
    wrongs = []
    for who, read in readers.items():
        try:
            read()
            wrongs.append(f"{who} was given damaged bytes")
        except (StorageCorrupt, JobProblem):
            pass
    expect(wrongs, guard, without=2)


# -- the sweep


@guarded
def test_the_sweep_brings_every_job_to_an_end(
    guard: str, monkeypatch: pytest.MonkeyPatch, settings: Settings, make_job: Any, claim: Any, let_pass: Any, see: Any
) -> None:
    if guard == "removed":
        monkeypatch.setattr(housekeeping, "sweep", lambda room: None)
    unsent, late, abandoned, to_cancel = (make_job().id for _ in range(4))
    let_pass(late, "deadline_at")
    room = make_room(settings)
    for job_id in (abandoned, to_cancel):
        claim(job_id)
        let_pass(job_id, "lease_until")
    with transaction(room.factory) as session:
        jobs.request_cancel(session, tenant_id=see(to_cancel).tenant_id, job_id=to_cancel)
    housekeeping.sweep(room)
    work_off_the_messages(room.factory, settings.redis_url, [unsent, late, abandoned, to_cancel], claim)
    room.factory.kw["bind"].dispose()
    ended = {"no message": unsent, "out of time": late, "worker gone": abandoned, "to be cancelled": to_cancel}
    wrongs = [f"{what}: {see(job_id).state} for ever" for what, job_id in ended.items() if not see(job_id).finished_at]
    expect(wrongs, guard, without=4)


def work_off_the_messages(factory: SessionFactory, redis_url: str, job_ids: list[UUID], claim: Any) -> None:
    """What workers do with the messages that lie in Redis."""
    with redis.Redis.from_url(redis_url) as client:
        messages: Any = client.lrange(QUEUE, 0, -1)
    for job_id in job_ids:
        if any(str(job_id).encode() in message for message in messages) and (job := claim(job_id)):
            with transaction(factory) as session:
                jobs.finish(session, job_id=job_id, attempt=job.attempt, result={}, artifacts=[])
