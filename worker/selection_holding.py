"""A claimed selection (another t of a finished job), as its worker holds it: fenced like a job, short and silent."""

import logging
import time
from typing import Any, Self
from uuid import UUID

from sqlalchemy import select

from store import queue, selections
from store.database import transaction
from store.jobs import Job
from store.storage import UNFINISHED
from store.tables import Artifact, Selection
from worker import problems
from worker.child import Child, Message
from worker.claimed import Claimed, Order, made_in
from worker.holding import job_spec
from worker.room import Room
from worker.spec import PATH_FILE, SelectionSpec

log = logging.getLogger(__name__)


class SelectionHolding(Claimed):
    """One attempt at one selection."""

    def __init__(self, room: Room, selection: Selection, spec: SelectionSpec) -> None:
        self._room = room
        self._selection = selection
        self._spec = spec
        self._claimed_at = time.monotonic()
        self._fence: dict[str, Any] = {"selection_id": selection.id, "attempt": selection.attempt}

    @classmethod
    def claim(cls, room: Room, selection_id: UUID) -> Self | None:
        """Take the selection, unless there is nothing to do."""
        with transaction(room.factory) as session:
            selection = selections.claim(
                session,
                selection_id=selection_id,
                worker=room.worker,
                lease_seconds=room.settings.lease_seconds,
                max_attempts=room.settings.max_attempts,
            )
            if selection is None:
                return None
            job = session.get_one(Job, selection.job_id)
            path = session.scalars(select(Artifact).where(Artifact.job_id == job.id, Artifact.name == PATH_FILE)).one()
            spec = SelectionSpec(
                selection_id=str(selection.id),
                attempt=selection.attempt,
                t=selection.t,
                repair=job_spec(session, job, room.settings),
                path_file=path.path,
                path_sha256=path.sha256,
            )
            return cls(room, selection, spec)

    @property
    def label(self) -> str:
        row = self._selection
        return f"selection {row.id} (t={row.t:g} of job {row.job_id}) attempt {row.attempt}"

    def start(self) -> Child:
        return Child(self._spec)

    def renew(self) -> Order:
        self._lease(self._room.settings.lease_seconds)
        too_long = time.monotonic() - self._claimed_at > self._room.settings.job_deadline_seconds
        return Order.DEADLINE if too_long else Order.GO_ON

    def out_of_time(self) -> None:
        self.fail(problems.problem("deadline-exceeded", "The selection ran out of time", "Ask for this t again."))

    def finish(self, message: Message) -> None:
        [artifact] = made_in(self._spec.folder, message["artifacts"])
        with transaction(self._room.factory) as session:
            selections.finish(session, **self._fence, figures=message["result"], artifact=artifact)
        self._room.storage.delete_tree(f"{self._spec.folder}/{UNFINISHED}")
        log.info("%s: succeeded", self.label)

    def fail(self, problem: dict[str, Any]) -> None:
        with transaction(self._room.factory) as session:
            selections.fail(session, **self._fence, problem=problem)
        self.drop_files()
        log.warning("%s: failed: %s %s", self.label, problem["type"], problem["detail"])

    def lost(self, reason: str, last_lines: list[str]) -> None:
        if self._selection.attempt >= self._room.settings.max_attempts:
            self.fail(problems.attempts_exhausted(self._selection.attempt, reason, last_lines))
            return
        log.warning("%s: lost, to be tried again: %s", self.label, reason)
        self.release()

    def release(self) -> None:
        """Let the lease run out now: whoever asks next may claim it."""
        self._lease(0)
        self.drop_files()
        queue.send_selection(self._room.settings.redis_url, self._selection.id)

    def drop_files(self) -> None:
        self._room.storage.delete_tree(self._spec.folder)

    def _lease(self, seconds: float) -> None:
        with transaction(self._room.factory) as session:
            selections.renew(session, **self._fence, lease_seconds=seconds)
