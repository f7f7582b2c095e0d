"""A claimed job, as its worker holds it: what it is told to do, and every write about it, under the fence."""

import logging
import os
from typing import Any, Literal, Self, cast
from uuid import UUID

from sqlalchemy.orm import Session

from store import jobs, queue, quotas
from store.database import transaction
from store.job_transitions import deadline_exceeded
from store.jobs import Job
from store.quotas import Limits
from store.settings import Settings
from store.storage import UNFINISHED
from store.tables import File
from worker.child import Child, Message
from worker.claimed import Claimed, Order, made_in
from worker.memory import default_job_memory
from worker.room import Room
from worker.spec import CHECKPOINT_FILE, InputRef, JobKind, JobSpec

log = logging.getLogger(__name__)


class JobHolding(Claimed):
    """One attempt at one job."""

    def __init__(self, room: Room, job: Job, spec: JobSpec) -> None:
        self._room = room
        self._job = job
        self._spec = spec
        self._fence: dict[str, Any] = {"job_id": job.id, "attempt": job.attempt}

    @classmethod
    def claim(cls, room: Room, job_id: UUID) -> Self | None:
        """Take the job, unless there is nothing to do."""
        with transaction(room.factory) as session:
            job = jobs.claim(
                session,
                job_id=job_id,
                worker=room.worker,
                lease_seconds=room.settings.lease_seconds,
                max_attempts=room.settings.max_attempts,
                limits=Limits.default(room.settings),
            )
            return cls(room, job, job_spec(session, job, room.settings)) if job else None

    @property
    def label(self) -> str:
        return f"job {self._job.id} attempt {self._job.attempt}"

    def start(self) -> Child:
        return Child(self._spec)

    def renew(self) -> Order:
        with transaction(self._room.factory) as session:
            renewal = jobs.renew(session, **self._fence, lease_seconds=self._room.settings.lease_seconds)
        if renewal.cancel_requested:
            return Order.CANCEL
        return Order.DEADLINE if renewal.deadline_passed else Order.GO_ON

    def record_progress(self, progress: dict[str, Any], *, event: Literal["stage", "progress"]) -> None:
        with transaction(self._room.factory) as session:
            jobs.record_progress(session, **self._fence, progress=progress, event=event)

    def record_points(self, points: list[dict[str, Any]]) -> None:
        with transaction(self._room.factory) as session:
            record = jobs.record_analysis_points if self._spec.kind == "analysis" else jobs.record_points
            record(session, **self._fence, points=points)

    def record_warning(self, warning: dict[str, Any]) -> None:
        with transaction(self._room.factory) as session:
            jobs.record_warning(session, **self._fence, data=warning)

    def finish(self, message: Message) -> None:
        artifacts = made_in(self._spec.folder, message["artifacts"])
        with transaction(self._room.factory) as session:
            ended = jobs.finish(session, **self._fence, result=message["result"], artifacts=artifacts)
        self._tidy(keep=self._job.attempt if ended.state == "succeeded" else None)
        log.info("%s: %s", self.label, ended.state)

    def fail(self, problem: dict[str, Any]) -> None:
        with transaction(self._room.factory) as session:
            ended = jobs.fail(session, **self._fence, problem=problem)
        self._tidy(keep=None)
        log.warning("%s: %s: %s %s", self.label, ended.state, problem["type"], problem["detail"])

    def cancelled(self) -> None:
        with transaction(self._room.factory) as session:
            jobs.mark_cancelled(session, **self._fence)
        self._tidy(keep=None)
        log.info("%s: cancelled", self.label)

    def out_of_time(self) -> None:
        with transaction(self._room.factory) as session:
            problem = deadline_exceeded(session.get_one(Job, self._job.id))
        self.fail(problem)

    def lost(self, reason: str, last_lines: list[str]) -> None:
        with transaction(self._room.factory) as session:
            now = jobs.lose_attempt(
                session,
                **self._fence,
                reason=reason,
                last_lines=last_lines,
                max_attempts=self._room.settings.max_attempts,
            )
            jobs.mark_enqueued(session, job_ids=[now.id])
        log.warning("%s: lost, now %s: %s", self.label, now.state, reason)
        self._hand_on(now)

    def release(self) -> None:
        with transaction(self._room.factory) as session:
            now = jobs.release(session, **self._fence)
            jobs.mark_enqueued(session, job_ids=[now.id])
        log.info("%s: released, now %s", self.label, now.state)
        self._hand_on(now)

    def _hand_on(self, now: Job) -> None:
        """After the attempt was given back: to any worker that has time, unless the job ended with it."""
        if now.state == "queued":
            self.drop_files()
            queue.send_job(self._room.settings.redis_url, now.id)
        else:
            self._tidy(keep=None)

    def hand_place_on(self) -> None:
        """Tell the workers of the jobs of the same tenant that its limits held back and that may start now."""
        default = Limits.default(self._room.settings)
        with transaction(self._room.factory) as session:
            waiting = quotas.may_start_now(session, tenant_id=self._job.tenant_id, default=default)
            jobs.mark_enqueued(session, job_ids=waiting)
        for job_id in waiting:
            queue.send_job(self._room.settings.redis_url, job_id)

    def drop_files(self) -> None:
        """All but the checkpoint, from which the next attempt goes on."""
        self._room.storage.delete_tree(self._spec.folder, keep=CHECKPOINT_FILE)

    def _tidy(self, *, keep: int | None) -> None:
        """After the end: remove what all attempts wrote, but for the files that are registered."""
        for attempt in range(1, self._job.attempt + 1):
            if attempt == keep:
                self._room.storage.delete_tree(f"{self._spec.folder_of(attempt)}/{UNFINISHED}")
                self._room.storage.delete(f"{self._spec.folder_of(attempt)}/{CHECKPOINT_FILE}")
            else:
                self._room.storage.delete_tree(self._spec.folder_of(attempt))


def job_spec(session: Session, job: Job, settings: Settings) -> JobSpec:
    """What a child needs for this job, read from its rows."""

    def ref(file_id: UUID | None) -> InputRef | None:
        return input_ref(session.get_one(File, file_id)) if file_id else None

    return JobSpec(
        kind=cast(JobKind, job.kind),  # the table allows the same values
        job_id=str(job.id),
        attempt=job.attempt,
        request=job.request,
        seed=job.seed,
        suspect=input_ref(session.get_one(File, job.suspect_file_id)),
        clean=input_ref(session.get_one(File, job.clean_file_id)),
        triggered=ref(job.triggered_file_id),
        second_model=ref(job.second_file_id),
        storage_root=settings.storage_root,
        device=settings.device,
        threads=settings.threads or len(os.sched_getaffinity(0)),
        memory_bytes=settings.job_memory_bytes or default_job_memory(),
        checkpoint_seconds=settings.checkpoint_seconds,
    )


def input_ref(file: File) -> InputRef:
    return InputRef(
        name=file.name,
        bytes=file.bytes,
        sha256=file.sha256,
        canonical_path=file.canonical_path,
        canonical_sha256=file.canonical_sha256,
        facts=file.facts,
    )
