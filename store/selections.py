"""Another t of a finished job, exported without refitting: asked for by tenants, done by workers, fenced like jobs."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from store.database import flush_and_read
from store.errors import NotSelectable, QueueFull, StaleFence
from store.job_reads import get_job, visible
from store.job_runs import NewArtifact
from store.job_transitions import Problem
from store.quotas import lock_tenant
from store.tables import Artifact, Job, Selection

BATCH = 500


def create(session: Session, *, tenant_id: UUID, job_id: UUID, t: float, max_queued: int) -> Selection | None:
    """Queue the export at `t`, or return the one asked for before (unless that failed). None: no such job.

    Raises NotSelectable when the job has not succeeded; QueueFull when the tenant has `max_queued` of these queued.
    """
    job = get_job(session, tenant_id=tenant_id, job_id=job_id, kind="repair")
    if job is None:
        return None
    if job.state != "succeeded":
        raise NotSelectable(job.state)
    same_t = select(Selection).where(Selection.job_id == job_id, Selection.t == t, Selection.state != "failed")
    present = session.scalar(same_t)
    if present is not None:
        return present
    own_limit = lock_tenant(session, tenant_id).max_queued_jobs
    max_queued = max_queued if own_limit is None else own_limit
    queued = select(Selection.id).join(Job).where(Job.tenant_id == tenant_id, Selection.state == "queued")
    if len(session.scalars(queued.limit(max_queued)).all()) >= max_queued:
        raise QueueFull(max_queued)
    # A concurrent request for the same t may win: then both get that row.
    session.execute(insert(Selection).values(id=uuid4(), job_id=job_id, t=t).on_conflict_do_nothing())
    return session.scalars(same_t).one()


def get(session: Session, *, tenant_id: UUID, job_id: UUID, selection_id: UUID) -> Selection | None:
    """The selection, or None when it is missing or somebody else's."""
    return session.scalar(
        select(Selection).join(Job).where(visible(tenant_id), Selection.job_id == job_id, Selection.id == selection_id)
    )


def list_of_job(session: Session, *, tenant_id: UUID, job_id: UUID) -> Sequence[Selection]:
    """The job's selections, oldest first."""
    return session.scalars(
        select(Selection)
        .join(Job)
        .where(visible(tenant_id), Selection.job_id == job_id)
        .order_by(Selection.created_at, Selection.id)
    ).all()


def claim(
    session: Session, *, selection_id: UUID, worker: str, lease_seconds: float, max_attempts: int
) -> Selection | None:
    """Take a selection that is queued or lost, as `jobs.claim` does; one with no attempt left fails here."""
    free = or_(
        Selection.state == "queued",
        (Selection.state == "running") & (Selection.lease_until < func.statement_timestamp()),
    )
    selection = session.scalar(
        update(Selection)
        .where(Selection.id == selection_id, free, Selection.attempt < max_attempts)
        .values(
            state="running",
            attempt=Selection.attempt + 1,
            worker=worker,
            lease_until=func.clock_timestamp() + timedelta(seconds=lease_seconds),
            started_at=func.coalesce(Selection.started_at, func.clock_timestamp()),
        )
        .returning(Selection)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if selection is not None:
        return selection
    spent = session.scalar(
        select(Selection)
        .where(Selection.id == selection_id, free, Selection.attempt >= max_attempts)
        .with_for_update(key_share=True)
    )
    if spent is not None:
        _end(session, spent, "failed", problem=_attempts_exhausted(spent))
    return None


def renew(session: Session, *, selection_id: UUID, attempt: int, lease_seconds: float) -> None:
    """Prolong the lease by the database's clock. Raises StaleFence."""
    selection = _held(session, selection_id, attempt)
    selection.lease_until = func.clock_timestamp() + timedelta(seconds=lease_seconds)
    session.flush()


def finish(
    session: Session, *, selection_id: UUID, attempt: int, figures: dict[str, Any], artifact: NewArtifact
) -> Selection:
    """Figures, weights and state, in the caller's one transaction. Raises StaleFence."""
    selection = _held(session, selection_id, attempt)
    weights = Artifact(id=uuid4(), job_id=selection.job_id, **asdict(artifact))
    session.add(weights)
    session.flush()
    selection.artifact_id = weights.id
    selection.figures = figures
    _end(session, selection, "succeeded", problem=None)
    return selection


def fail(session: Session, *, selection_id: UUID, attempt: int, problem: Problem) -> Selection:
    """End the selection with an RFC 9457 problem. Raises StaleFence."""
    selection = _held(session, selection_id, attempt)
    _end(session, selection, "failed", problem=problem)
    return selection


def due(session: Session, *, older_than_seconds: float, limit: int = BATCH) -> Sequence[UUID]:
    """Selections that no worker may know of: not sent in the last `older_than_seconds`, or lost."""
    stale = func.statement_timestamp() - timedelta(seconds=older_than_seconds)
    unsent = (Selection.state == "queued") & (Selection.enqueued_at.is_(None) | (Selection.enqueued_at < stale))
    lost = (Selection.state == "running") & (Selection.lease_until < func.statement_timestamp())
    return session.scalars(select(Selection.id).where(unsent | lost).order_by(Selection.created_at).limit(limit)).all()


def mark_enqueued(session: Session, *, selection_ids: Sequence[UUID]) -> None:
    """Note that a message was (or is about to be) sent for these selections."""
    session.execute(
        update(Selection)
        .where(Selection.id.in_(selection_ids), Selection.state == "queued")
        .values(enqueued_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def _held(session: Session, selection_id: UUID, attempt: int) -> Selection:
    selection = session.scalar(
        select(Selection)
        .where(Selection.id == selection_id, Selection.attempt == attempt, Selection.state == "running")
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if selection is None:
        raise StaleFence(selection_id, attempt)
    return selection


def _end(session: Session, selection: Selection, state: str, *, problem: Problem | None) -> None:
    selection.state = state
    selection.problem = problem
    selection.lease_until = None
    selection.finished_at = func.clock_timestamp()
    flush_and_read(session, selection)


def _attempts_exhausted(selection: Selection) -> Problem:
    return {
        "type": "/problems/attempts-exhausted",
        "title": "Every attempt at the selection was lost",
        "detail": f"The worker died or vanished during each of {selection.attempt} attempts. Ask for this t again, "
        "or ask the operator whether the workers have enough memory.",
        "attempts": selection.attempt,
    }
