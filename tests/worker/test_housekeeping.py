"""Lost messages are sent again, overdue jobs end, and what is past its time goes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, update

from store import partial_uploads, queue
from store.backup import no_expiry
from store.database import transaction, try_lock
from store.partial_files import held, partial_path
from store.settings import Settings
from store.tables import File, Job, PartialUpload, Tenant
from worker.housekeeping import expire, sweep
from worker.room import Room, make_room


@pytest.fixture
def room(settings: Settings) -> Iterator[Room]:
    room = make_room(settings)
    yield room
    room.factory.kw["bind"].dispose()


def change(room: Room, row: type[Job] | type[File], row_id: UUID, **values: Any) -> None:
    with transaction(room.factory) as session:
        session.execute(update(row).where(row.id == row_id).values(**values))


def messages(room: Room) -> int | None:
    return queue.queue_length(room.settings.redis_url)


def test_a_job_that_was_never_sent_is_sent_once(bench: Any, room: Room) -> None:
    bench.post(send=False)
    sweep(room)
    sweep(room)
    assert messages(room) == 1


def test_a_message_that_redis_lost_is_sent_again_when_nothing_waits(bench: Any, room: Room) -> None:
    job_id = bench.post(send=False)
    change(room, Job, job_id, enqueued_at=func.now() - timedelta(seconds=60))
    sweep(room)
    assert messages(room) == 1


def test_a_long_wait_in_the_queue_does_not_pile_up_messages(bench: Any, room: Room) -> None:
    job_id = bench.post()
    change(room, Job, job_id, enqueued_at=func.now() - timedelta(seconds=60))
    sweep(room)
    assert messages(room) == 1


def test_only_one_worker_sweeps_at_a_time(bench: Any, room: Room) -> None:
    bench.post(send=False)
    with transaction(room.factory) as session:
        assert try_lock(session, "sweep")
        sweep(room)
        assert messages(room) == 0
    sweep(room)
    assert messages(room) == 1


def test_a_job_whose_worker_vanished_at_its_deadline_ends_and_leaves_no_files(bench: Any, room: Room) -> None:
    job_id = bench.post(send=False)
    past = func.now() - timedelta(seconds=1)
    change(room, Job, job_id, state="running", attempt=1, lease_until=past, deadline_at=past)
    with room.storage.new_writer(f"jobs/{job_id}/1/repaired.safetensors") as writer:
        writer.commit()
    sweep(room)
    assert bench.job(job_id).problem["type"] == "/problems/deadline-exceeded"
    assert bench.files_of(job_id) == set()


def test_what_is_past_its_retention_goes_with_its_files(bench: Any, room: Room) -> None:
    upload = bench.add_model(bench.suspect.state_dict())
    job_id = bench.post(send=False, model=upload)
    past = func.now() - timedelta(seconds=1)
    change(room, Job, job_id, state="succeeded", expires_at=past)
    change(room, File, upload, expires_at=past)
    with room.storage.new_writer(f"jobs/{job_id}/1/repaired.safetensors") as writer:
        writer.commit()
    expire(room)
    with transaction(room.factory) as session:
        assert session.get(Job, job_id) is None
    assert bench.files_of(job_id) == set()
    assert not room.storage.path(f"files/{bench.tenant_id}/{upload}").exists()


def test_nothing_expires_while_a_backup_copies_files(bench: Any, room: Room) -> None:
    file_id = bench.add_images("clean", *bench.images(6), bench.classes)
    change(room, File, file_id, expires_at=func.now() - timedelta(seconds=1))
    with no_expiry(room.settings.database_url):
        expire(room)
        assert len(list(room.storage.folders())) == 1
    expire(room)
    assert list(room.storage.folders()) == []


def begun(room: Room, tenant_id: UUID) -> tuple[UUID, Path]:
    """A resumable upload of which three of five bytes have come, and whose time has passed."""
    with transaction(room.factory) as session:
        upload = partial_uploads.create(session, tenant_id=tenant_id, kind="model", name=None, bytes=5)
        upload.expires_at = func.now() - timedelta(seconds=1)
    path = partial_path(room.storage, tenant_id, upload.id)
    path.write_bytes(b"abc")
    return upload.id, path


def stored_bytes(room: Room, tenant_id: UUID) -> int:
    with transaction(room.factory) as session:
        return session.get_one(Tenant, tenant_id).stored_bytes


def test_an_upload_that_nobody_goes_on_with_is_given_up_with_all_it_took(bench: Any, room: Room) -> None:
    upload_id, path = begun(room, bench.tenant_id)
    assert stored_bytes(room, bench.tenant_id) == 5
    expire(room)
    with transaction(room.factory) as session:
        assert session.get(PartialUpload, upload_id) is None
    assert stored_bytes(room, bench.tenant_id) == 0
    assert not path.exists()


def test_an_upload_is_not_given_up_while_it_is_written_to(bench: Any, room: Room) -> None:
    upload_id, path = begun(room, bench.tenant_id)
    with held(path):
        expire(room)
    with transaction(room.factory) as session:
        assert session.get(PartialUpload, upload_id) is not None
    assert path.read_bytes() == b"abc"
