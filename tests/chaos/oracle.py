"""What must be true after any fault: the log of 202 answers against the database and the stored files."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from store.database import SessionFactory, transaction
from store.storage import LocalStorage
from store.tables import ENDED_STATES, Artifact, CurvePoint, Job, JobEvent
from tests.chaos.short_job import TS, content


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Ids of jobs that are not as they must be, by what is wrong; and what was counted on the way."""

    lost: set[UUID]  # answered 202, and not there or not ended
    doubled: set[UUID]  # nobody was answered for it, or it ended more than once
    points_wrong: set[UUID]  # a succeeded job whose curve is not exactly the points of its work, each once
    files_wrong: set[UUID]  # a succeeded job whose file is missing, damaged or another job's
    stale_writes: set[UUID]  # an older attempt wrote after a newer one had begun
    states: Counter[str]
    attempts: Counter[int]

    def require_nothing_wrong(self) -> None:
        """Fails the test that asks, with every job that is not right."""
        wrong = {name: getattr(self, name) for name in _WRONGS if getattr(self, name)}
        assert not wrong, wrong

    def __str__(self) -> str:
        counted = ", ".join(f"{len(getattr(self, name))} {name.replace('_', ' ')}" for name in _WRONGS)
        return f"{counted}; {dict(self.states)}; jobs by attempts: {dict(sorted(self.attempts.items()))}"


_WRONGS = ("lost", "doubled", "points_wrong", "files_wrong", "stale_writes")


def audit(factory: SessionFactory, storage: LocalStorage, tenant_id: UUID, accepted: Iterable[UUID]) -> Audit:
    """Compares what a tenant was promised with what there is."""
    promised = set(accepted)
    with transaction(factory) as session:
        jobs = {job.id: job for job in session.scalars(select(Job).where(Job.tenant_id == tenant_id))}
        events: dict[UUID, list[JobEvent]] = {job_id: [] for job_id in jobs}
        for event in session.scalars(select(JobEvent).where(JobEvent.job_id.in_(jobs)).order_by(JobEvent.id)):
            events[event.job_id].append(event)
        curves: dict[UUID, list[tuple[float, float]]] = {job_id: [] for job_id in jobs}
        for point in session.scalars(select(CurvePoint).where(CurvePoint.job_id.in_(jobs))):
            curves[point.job_id].append((point.t, point.clean_loss))
        artifacts: dict[UUID, list[Artifact]] = {job_id: [] for job_id in jobs}
        for row in session.scalars(select(Artifact).where(Artifact.job_id.in_(jobs))):
            artifacts[row.job_id].append(row)
    succeeded = {job.id: job for job in jobs.values() if job.state == "succeeded"}
    ended = {job.id for job in jobs.values() if job.state in ENDED_STATES}
    return Audit(
        lost=promised - ended,
        doubled={job_id for job_id in jobs if job_id not in promised or _endings(events[job_id]) > 1},
        points_wrong={
            job.id for job in succeeded.values() if sorted(curves[job.id]) != [(t, job.seed + t) for t in TS]
        },
        files_wrong={job.id for job in succeeded.values() if not _whole(storage, job, artifacts[job.id])},
        stale_writes={job_id for job_id, told in events.items() if not _in_order(told)},
        states=Counter(job.state for job in jobs.values()),
        attempts=Counter(job.attempt for job in jobs.values()),
    )


def _endings(events: list[JobEvent]) -> int:
    return sum(event.type in ENDED_STATES for event in events)


def _whole(storage: LocalStorage, job: Job, artifacts: list[Artifact]) -> bool:
    if len(artifacts) != 1 or not storage.path(artifacts[0].path).exists():
        return False
    kept = storage.path(artifacts[0].path).read_bytes()
    return kept == content(job.seed) and artifacts[0].sha256 == hashlib.sha256(kept).hexdigest()


def _in_order(events: list[JobEvent]) -> bool:
    """The attempts that wrote, in the order of their writes."""
    attempts = [event.data["attempt"] for event in events if "attempt" in event.data]
    return attempts == sorted(attempts)
