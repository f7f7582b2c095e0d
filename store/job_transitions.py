"""How a job changes state. Every function here expects that the caller's transaction holds the job's row lock.

queued -> running -> succeeded | failed
   |         |  ^
   |         |  +-- claimed again after a lost lease; released: back to queued
   |         v
   |      cancelling -> cancelled          (a job being cancelled ends as cancelled, whatever its worker says)
   +---------------> cancelled | failed
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from store.database import flush_and_read
from store.quotas import end_span
from store.tables import Job, JobEvent

Problem = dict[str, Any]  # RFC 9457 members: type, title, detail, ...


def add_event(session: Session, job_id: UUID, type_: str, data: dict[str, Any]) -> None:
    """Append to the job's dated history, which is also its live stream."""
    session.add(JobEvent(job_id=job_id, type=type_, data=data))


def end(session: Session, job: Job, state: str, *, result: dict[str, Any] | None, problem: Problem | None) -> None:
    """Write a terminal state, its time, when the results expire, and the terminal event."""
    job.state = state
    job.result = result
    job.problem = problem
    job.lease_until = None
    job.finished_at = func.clock_timestamp()
    job.expires_at = func.clock_timestamp() + job.retention
    end_span(session, job)
    data: dict[str, Any] = {"state": state, "attempt": job.attempt}
    if problem is not None:
        data["problem"] = problem
    add_event(session, job.id, state, data)
    flush_and_read(session, job)


def end_cancelled(session: Session, job: Job) -> None:
    """The job was asked to stop, and has."""
    end(session, job, "cancelled", result=None, problem=None)


def attempts_exhausted(job: Job, reason: str = "The worker vanished.", last_lines: Sequence[str] = ()) -> Problem:
    """Why a job is not tried once more; `reason` is how the last attempt ended, `last_lines` what it printed last."""
    counted = job.attempt - job.releases
    return {
        "type": "/problems/attempts-exhausted",
        "title": "Every attempt at the job was lost",
        "detail": f"Each of {counted} attempts was lost, the last one in stage {job.stage or 'validating'}: {reason} "
        "Most often the job needs more memory than the worker has: use fewer or "
        "smaller images or a smaller model, or ask the operator; then retry the job.",
        "attempts": counted,
        "last_lines": list(last_lines),
    }


def deadline_exceeded(job: Job) -> Problem:
    """Why a job that ran out of time was given up."""
    where = f"in stage {job.stage}" if job.stage else "still in the queue"
    return {
        "type": "/problems/deadline-exceeded",
        "title": "The job ran out of time",
        "detail": f"At its deadline ({job.deadline_at.isoformat()}) the job was {where}. "
        "Retry it with a larger deadline_seconds, or when the queue is shorter.",
        "deadline_at": job.deadline_at.isoformat(),
    }
