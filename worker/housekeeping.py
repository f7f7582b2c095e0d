"""A thread in each worker, one at work at a time: settles overdue jobs, re-sends lost messages, removes old files."""

import logging
import threading
import time
from contextlib import suppress
from datetime import timedelta

from store import files, idempotency, jobs, partial_uploads, queue, selections
from store.database import transaction, try_lock
from store.errors import PartialBusy
from store.partial_files import held, partial_path
from store.storage import file_folder, job_folder
from worker import orphans
from worker.room import Room

_RESEND_SECONDS = 600.0  # while other messages wait, a lost one may wait too
_LONG_QUEUE = 1000  # messages; workers that come free find hints enough
_EXPIRE_SECONDS = 300.0
_ORPHANS_SECONDS = 6 * 3600.0
_UNFINISHED_SECONDS = 86_400.0
_IDEMPOTENCY_KEPT = timedelta(days=1)

log = logging.getLogger(__name__)


def start(room: Room) -> threading.Thread:
    """Start the thread; it ends when the room's stop switch is set."""
    thread = threading.Thread(target=_keep_house, args=(room,), name="housekeeping", daemon=True)
    thread.start()
    return thread


def _keep_house(room: Room) -> None:
    next_expiry = next_search = time.monotonic()
    while not room.stop.event.wait(room.settings.sweep_seconds):
        try:
            sweep(room)
            if time.monotonic() >= next_expiry:
                expire(room)
                next_expiry = time.monotonic() + _EXPIRE_SECONDS
            if time.monotonic() >= next_search:
                orphans.collect(room, now=time.time())
                next_search = time.monotonic() + _ORPHANS_SECONDS
        except Exception:  # the database is away, a disk is full: the next round tries again
            log.exception("housekeeping failed; trying again in %g s", room.settings.sweep_seconds)


def sweep(room: Room) -> None:
    """End what no worker would end, and send messages again for what no worker may know of.

    An empty queue means that nothing is on its way, so every queued job is due; otherwise only what waits long.
    """
    waiting = queue.queue_length(room.settings.redis_url)
    older_than = room.settings.sweep_seconds if waiting == 0 else _RESEND_SECONDS
    with transaction(room.factory) as session:
        if not try_lock(session, "sweep"):
            return
        settled = jobs.settle_overdue(session, max_attempts=room.settings.max_attempts)
        if waiting is None or waiting > _LONG_QUEUE:
            due, due_selections = [], []
        else:
            due = jobs.due_jobs(session, older_than_seconds=older_than)
            due_selections = list(selections.due(session, older_than_seconds=older_than))
        jobs.mark_enqueued(session, job_ids=due)
        selections.mark_enqueued(session, selection_ids=due_selections)
    for job_id in settled:
        room.storage.delete_tree(job_folder(job_id))
        log.warning("job %s: settled, nobody would have ended it", job_id)
    for job_id in due:
        log.info("job %s: sent again", job_id)
        queue.send_job(room.settings.redis_url, job_id)
    for selection_id in due_selections:
        log.info("selection %s: sent again", selection_id)
        queue.send_selection(room.settings.redis_url, selection_id)


def expire(room: Room) -> None:
    """Remove what is past its retention: results, uploads, idempotency keys, leftovers of crashed writers.

    Files go before their rows, so that a crash in between leaves a row that the next round finds.
    """
    with transaction(room.factory) as session:
        if not try_lock(session, "expire"):
            return
        for job_id in jobs.expired_jobs(session):
            room.storage.delete_tree(job_folder(job_id))
            jobs.delete_job(session, job_id=job_id)
            log.info("job %s: expired", job_id)
        files.expire(session)
        idempotency.purge(session, older_than=_IDEMPOTENCY_KEPT)
    _purge_files(room)
    _give_up_uploads(room)
    room.storage.remove_unfinished(older_than_seconds=_UNFINISHED_SECONDS, now=time.time())


def _purge_files(room: Room) -> None:
    """One transaction a file, as each holds the lock of its tenant. Two workers at one file do no harm."""
    with transaction(room.factory) as session:
        rows = files.purgeable(session)
    for row in rows:
        room.storage.delete_tree(file_folder(row.tenant_id, row.id))
        with transaction(room.factory) as session:
            files.mark_purged(session, file_id=row.id)
        log.info("file %s: purged", row.id)


def _give_up_uploads(room: Room) -> None:
    """Resumable uploads that nobody has gone on with: row, bytes, and what was reserved for them."""
    with transaction(room.factory) as session:
        rows = partial_uploads.expired(session)
    for row in rows:
        path = partial_path(room.storage, row.tenant_id, row.id)
        with suppress(PartialBusy), held(path):
            with transaction(room.factory) as session:
                partial_uploads.delete(session, tenant_id=row.tenant_id, upload_id=row.id)
            path.unlink()
            log.info("upload %s: given up", row.id)
