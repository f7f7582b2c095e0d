"""Collects stored files that no row names, a day after they appeared."""

import logging
from collections.abc import Sequence
from itertools import islice

from store import orphans
from store.database import transaction, try_lock
from worker.room import Room

_GRACE_SECONDS = 86_400.0  # far longer than from a file to its row
_BATCH = 200  # folders a transaction

log = logging.getLogger(__name__)


def collect(room: Room, *, now: float) -> None:
    """Remove what is orphaned at `now` (Unix time), a part of the storage at a time; one worker does it, others leave.

    Files first; folders that are left empty go in a later round, when nobody has come back to them for a day.
    """
    before = now - _GRACE_SECONDS
    folders = room.storage.folders()
    while batch := list(islice(folders, _BATCH)):
        for folder in batch:
            room.storage.delete_empty(folder, before=before)
        if not _collect_in(room, batch, before):
            return


def _collect_in(room: Room, folders: Sequence[str], before: float) -> bool:
    """False: somebody else is at it, or nothing here can be this database's."""
    with transaction(room.factory) as session:
        since = orphans.first_tenant_at(session)
        if since is None or not try_lock(session, "orphans"):
            return False
        old = [
            name for folder in folders for name in room.storage.files(folder, after=since.timestamp(), before=before)
        ]
        for name in orphans.without_a_row(session, old):
            room.storage.delete(name)
            log.warning("%s: no row names it; removed", name)
    return True
