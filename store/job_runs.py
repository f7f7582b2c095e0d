"""What a worker writes about the job it holds. `attempt` is the fence: a write of an older attempt changes nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store.errors import StaleFence
from store.job_sweep import settle_one
from store.job_transitions import Problem, add_event, attempts_exhausted, end, end_cancelled
from store.quotas import NO_LIMITS, Limits, begin_span, end_span, may_start, prolong_span
from store.tables import IS_HELD, IS_LATE, IS_LOST, IS_QUEUED, AnalysisPoint, Artifact, CurvePoint, Job


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """What the worker must know at each heartbeat."""

    cancel_requested: bool
    deadline_passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class NewArtifact:
    """A file that a job made; `path` is its storage name, `sha256` lower-case hex."""

    name: str
    path: str
    bytes: int
    sha256: str
    media_type: str


def claim(
    session: Session,
    *,
    job_id: UUID,
    worker: str,
    lease_seconds: float,
    max_attempts: int,
    limits: Limits = NO_LIMITS,
) -> Job | None:
    """Take a job that is queued, or whose holder's lease has run out, in one conditional UPDATE.

    The attempt is counted before the work starts, so one that kills its worker counts too.
    `limits` hold for a tenant that has none of its own.
    None: nothing to do (held by another, ended, or settled right here: cancelled, out of time, out of attempts), or
    the tenant's limits hold it back: it stays queued.
    """
    job = may_start(session, job_id=job_id, default=limits) and session.scalar(
        update(Job)
        .where(
            Job.id == job_id,
            or_(IS_QUEUED, IS_LOST & (Job.state == "running")),
            Job.attempt - Job.releases < max_attempts,
            ~IS_LATE,
        )
        .values(
            state="running",
            stage=func.coalesce(Job.stage, "validating"),
            attempt=Job.attempt + 1,
            worker=worker,
            lease_until=func.clock_timestamp() + timedelta(seconds=lease_seconds),
            held_back_at=None,
            started_at=func.coalesce(Job.started_at, func.clock_timestamp()),
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if not job:
        settle_one(session, job_id=job_id, max_attempts=max_attempts)
        return None
    add_event(session, job.id, "state", {"state": "running", "attempt": job.attempt})
    begin_span(session, job)
    session.flush()
    return job


def renew(session: Session, *, job_id: UUID, attempt: int, lease_seconds: float) -> Renewal:
    """Prolong the lease by the database's clock. Raises StaleFence."""
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.attempt == attempt, IS_HELD)
        .values(lease_until=func.clock_timestamp() + timedelta(seconds=lease_seconds))
        .returning(Job.cancel_requested_at.is_not(None), IS_LATE)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise StaleFence(job_id, attempt)
    prolong_span(session, job_id, attempt, timedelta(seconds=lease_seconds))
    return Renewal(cancel_requested=row[0], deadline_passed=row[1])


def _held(session: Session, job_id: UUID, attempt: int) -> Job:
    """The job that this attempt holds, its row locked until the transaction ends. Raises StaleFence."""
    job = session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.attempt == attempt, IS_HELD)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise StaleFence(job_id, attempt)
    return job


def record_progress(
    session: Session,
    *,
    job_id: UUID,
    attempt: int,
    progress: dict[str, Any],
    event: Literal["stage", "progress"] | None,
) -> None:
    """Store the newest progress (`stage`, `fraction`, `stage_fraction`, `seconds_left`, `numbers`).

    `event` says whether the stream hears of it too. Raises StaleFence.
    """
    job = _held(session, job_id, attempt)
    job.progress = progress
    job.stage = progress["stage"]
    if event is not None:
        add_event(session, job_id, event, progress)
    session.flush()


def record_warning(session: Session, *, job_id: UUID, attempt: int, data: dict[str, Any]) -> None:
    """Tell the stream of something the user should know. Raises StaleFence."""
    _held(session, job_id, attempt)
    add_event(session, job_id, "warning", data)
    session.flush()


def record_points(session: Session, *, job_id: UUID, attempt: int, points: Sequence[dict[str, Any]]) -> None:
    """Store curve points (dicts with the columns of `curve_points`); one at the same t of a path is replaced.

    Each point is a `point` event too, with the same members. Raises StaleFence.
    """
    _record(session, CurvePoint, job_id, attempt, points)


def record_analysis_points(session: Session, *, job_id: UUID, attempt: int, points: Sequence[dict[str, Any]]) -> None:
    """The same for the points of an analysis (dicts with the columns of `analysis_points`). Raises StaleFence."""
    _record(session, AnalysisPoint, job_id, attempt, points)


def _record(
    session: Session,
    table: type[CurvePoint | AnalysisPoint],
    job_id: UUID,
    attempt: int,
    points: Sequence[dict[str, Any]],
) -> None:
    _held(session, job_id, attempt)
    for point in points:
        values = {**point, "attempt": attempt}
        statement = insert(table).values(job_id=job_id, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["job_id", "path", "t"], set_=values))
        add_event(session, job_id, "point", values)
    session.flush()


def finish(
    session: Session, *, job_id: UUID, attempt: int, result: dict[str, Any], artifacts: Sequence[NewArtifact]
) -> Job:
    """Result, artifacts, terminal event and state, in the caller's one transaction. Raises StaleFence.

    A job that was asked to cancel meanwhile ends as cancelled, without result and artifacts: see `.state`.
    """
    job = _held(session, job_id, attempt)
    if job.state == "cancelling":
        end_cancelled(session, job)
        return job
    session.add_all(Artifact(job_id=job_id, **asdict(artifact)) for artifact in artifacts)
    end(session, job, "succeeded", result=result, problem=None)
    return job


def fail(session: Session, *, job_id: UUID, attempt: int, problem: Problem) -> Job:
    """End the job with an RFC 9457 problem (or as cancelled, if that was asked for). Raises StaleFence."""
    job = _held(session, job_id, attempt)
    if job.state == "cancelling":
        end_cancelled(session, job)
    else:
        end(session, job, "failed", result=None, problem=problem)
    return job


def mark_cancelled(session: Session, *, job_id: UUID, attempt: int) -> Job:
    """The worker has stopped the job as it was asked to. Raises StaleFence (also when nobody asked)."""
    job = _held(session, job_id, attempt)
    if job.state != "cancelling":
        raise StaleFence(job_id, attempt)
    end_cancelled(session, job)
    return job


def release(session: Session, *, job_id: UUID, attempt: int) -> Job:
    """Give the job back because the worker must leave: it is queued at once and the attempt does not count.

    One that is being cancelled ends as cancelled. Raises StaleFence.
    """
    job = _held(session, job_id, attempt)
    if job.state == "cancelling":
        end_cancelled(session, job)
        return job
    job.releases = job.releases + 1
    _requeue(session, job)
    return job


def lose_attempt(
    session: Session, *, job_id: UUID, attempt: int, reason: str, last_lines: Sequence[str] = (), max_attempts: int
) -> Job:
    """Give the job back because the attempt died (out of memory, crash, hang): queued at once, and the attempt counts.

    `reason` is a sentence for the user, `last_lines` what the attempt printed last: a `warning` event, and part of the
    problem if this was the last attempt.
    A job that is being cancelled ends as cancelled. Raises StaleFence.
    """
    job = _held(session, job_id, attempt)
    if job.state == "cancelling":
        end_cancelled(session, job)
        return job
    add_event(session, job_id, "warning", {"attempt": attempt, "reason": reason, "last_lines": list(last_lines)})
    if job.attempt - job.releases >= max_attempts:
        end(session, job, "failed", result=None, problem=attempts_exhausted(job, reason, last_lines))
    else:
        _requeue(session, job)
    return job


def _requeue(session: Session, job: Job) -> None:
    end_span(session, job)
    job.state = "queued"
    job.worker = None
    job.lease_until = None
    job.enqueued_at = None
    add_event(session, job.id, "state", {"state": "queued", "attempt": job.attempt})
    session.flush()
