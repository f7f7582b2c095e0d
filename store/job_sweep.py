"""What keeps jobs moving when messages, workers or the clock fail them: any worker runs this, one at a time."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from store.job_transitions import attempts_exhausted, deadline_exceeded, end, end_cancelled
from store.tables import IS_LATE, IS_LOST, IS_QUEUED, Job

BATCH = 500
HELD_BACK = timedelta(minutes=1)


def due_jobs(session: Session, *, older_than_seconds: float, limit: int = BATCH) -> list[UUID]:
    """Jobs that no worker may know of: queued ones not sent in the last `older_than_seconds`, and lost ones.

    One that its tenant's limits held back is left alone for a minute.
    A message may be sent twice: `claim` lets one through.
    """
    try_again = func.statement_timestamp() - HELD_BACK
    waits = IS_QUEUED & (Job.held_back_at.is_(None) | (Job.held_back_at < try_again))
    stale = func.statement_timestamp() - timedelta(seconds=older_than_seconds)
    lost = select(Job.id).where(IS_LOST).order_by(Job.lease_until).limit(limit)
    unsent = select(Job.id).where(waits, Job.enqueued_at.is_(None)).order_by(Job.created_at, Job.id).limit(limit)
    sent_long_ago = select(Job.id).where(waits, Job.enqueued_at < stale).order_by(Job.enqueued_at).limit(limit)
    due = [job_id for query in (lost, unsent, sent_long_ago) for job_id in session.scalars(query)]
    return due[:limit]


def mark_enqueued(session: Session, *, job_ids: Sequence[UUID]) -> None:
    """Note that a message was (or is about to be) sent for these jobs."""
    session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), IS_QUEUED)
        .values(enqueued_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def settle_overdue(session: Session, *, max_attempts: int, limit: int = BATCH) -> list[UUID]:
    """End the jobs that no worker would end: returns their ids.

    cancelling and lost -> cancelled; queued or lost past the deadline -> failed; lost in the last attempt -> failed.
    """
    spent = Job.attempt - Job.releases >= max_attempts
    hopeless = or_(Job.state == "cancelling", IS_LATE, spent)
    settled = []
    for condition in (IS_LOST & hopeless, IS_QUEUED & IS_LATE):  # one index walk each
        query = select(Job).where(condition).limit(limit).with_for_update(skip_locked=True, key_share=True)
        for job in session.scalars(query.execution_options(populate_existing=True)):
            _settle(session, job)
            settled.append(job.id)
    return settled


def settle_one(session: Session, *, job_id: UUID, max_attempts: int) -> None:
    """The same for one job, if it needs it."""
    spent = Job.attempt - Job.releases >= max_attempts
    job = session.scalar(
        select(Job)
        .where(
            Job.id == job_id,
            or_(IS_LOST & (Job.state == "cancelling"), (IS_LOST | IS_QUEUED) & or_(IS_LATE, spent)),
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if job is not None:
        _settle(session, job)


def _settle(session: Session, job: Job) -> None:
    """End a job that is known to be beyond help; the reason follows from the row."""
    if job.state == "cancelling":
        end_cancelled(session, job)
        return
    late = session.scalar(select(func.clock_timestamp() >= job.deadline_at))
    problem = deadline_exceeded(job) if late else attempts_exhausted(job)
    end(session, job, "failed", result=None, problem=problem)


def expired_jobs(session: Session, *, limit: int = BATCH) -> Sequence[UUID]:
    """Jobs whose results' time has passed. Delete their stored files first, then the rows."""
    return session.scalars(
        select(Job.id).where(Job.expires_at <= func.now()).order_by(Job.expires_at).limit(limit)
    ).all()


def delete_job(session: Session, *, job_id: UUID) -> None:
    """Remove an expired job with its events, points, artifacts and selections."""
    session.execute(delete(Job).where(Job.id == job_id, Job.expires_at <= func.now()))
