"""What a tenant sees of its jobs. The tenant is in every query; jobs whose time has passed are not there any more.

A `kind` that is given makes jobs of another kind as unknown as those of other tenants.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal_column, select, tuple_
from sqlalchemy.orm import Session

from store.cursors import decode_cursor, encode_cursor
from store.tables import AnalysisPoint, Artifact, CurvePoint, Job, JobEvent, JobLabel

MOST_COUNTED = 10_000
_END_OF_TIME: ColumnElement[datetime] = literal_column("'infinity'::timestamptz")
_LAST_ID = UUID(int=2**128 - 1)


def visible(tenant_id: UUID, kind: str | None = None) -> ColumnElement[bool]:
    """The tenant's own jobs (of this kind) whose results have not expired."""
    own = (Job.tenant_id == tenant_id) & (Job.expires_at.is_(None) | (Job.expires_at > func.now()))
    return own if kind is None else own & (Job.kind == kind)


def get_job(session: Session, *, tenant_id: UUID, job_id: UUID, kind: str | None = None) -> Job | None:
    """The job, or None when it is missing, expired, of another kind or somebody else's."""
    return session.scalar(select(Job).where(visible(tenant_id, kind), Job.id == job_id))


def list_jobs(
    session: Session,
    *,
    tenant_id: UUID,
    kind: str,
    state: str | None = None,
    label: tuple[str, str] | None = None,
    limit: int,
    cursor: str | None = None,
) -> tuple[Sequence[Job], str | None]:
    """One page of the tenant's jobs of a kind, newest first, and the cursor of the next page (None: this was the last).

    Jobs created while someone pages do not shift the pages. Raises BadCursor.
    """
    if label is None:
        query, page_key = select(Job), tuple_(Job.created_at, Job.id)
        order = (Job.created_at.desc(), Job.id.desc())
    else:
        query, page_key = _labelled(tenant_id, kind, label), tuple_(JobLabel.created_at, JobLabel.job_id)
        order = (JobLabel.created_at.desc(), JobLabel.job_id.desc())
    query = query.where(visible(tenant_id, kind)).order_by(*order).limit(limit + 1)
    if state is not None:
        query = query.where(Job.state == state)
    if cursor is not None:
        query = query.where(page_key < tuple_(*decode_cursor(cursor)))
    rows = session.scalars(query).all()
    page = rows[:limit]
    return page, encode_cursor(page[-1]) if len(rows) > limit else None


def _labelled(tenant_id: UUID, kind: str, label: tuple[str, str]) -> Select[Job]:
    key, value = label
    own_label = (JobLabel.tenant_id == tenant_id) & (JobLabel.kind == kind)
    this_label = (JobLabel.key == key) & (JobLabel.value == value)
    return select(Job).join(JobLabel, JobLabel.job_id == Job.id).where(own_label, this_label)


def queue_position(session: Session, *, tenant_id: UUID, job_id: UUID) -> int | None:
    """How many queued jobs are ahead (0: next), counted up to 10,000; None when the job is not queued."""
    job = get_job(session, tenant_id=tenant_id, job_id=job_id)
    if job is None or job.state != "queued":
        return None
    return session.scalar(select(func.queued_before(job.created_at, job.id, MOST_COUNTED))) or 0


def queue_depth(session: Session, *, at_most: int) -> int:
    """How many jobs of all tenants are queued; what is more than `at_most` is not counted."""
    return session.scalar(select(func.queued_before(_END_OF_TIME, _LAST_ID, at_most))) or 0


def events_after(session: Session, *, tenant_id: UUID, job_id: UUID, after_id: int, limit: int) -> Sequence[JobEvent]:
    """Events of the job with an id above `after_id`, oldest first."""
    return session.scalars(
        select(JobEvent)
        .join(Job, Job.id == JobEvent.job_id)
        .where(visible(tenant_id), JobEvent.job_id == job_id, JobEvent.id > after_id)
        .order_by(JobEvent.id)
        .limit(limit)
    ).all()


def curve(session: Session, *, tenant_id: UUID, job_id: UUID) -> Sequence[CurvePoint]:
    """The curve points measured so far, by path and t."""
    return session.scalars(
        select(CurvePoint)
        .join(Job, Job.id == CurvePoint.job_id)
        .where(visible(tenant_id), CurvePoint.job_id == job_id)
        .order_by(CurvePoint.path, CurvePoint.t)
    ).all()


def analysis_points(session: Session, *, tenant_id: UUID, job_id: UUID) -> Sequence[AnalysisPoint]:
    """The points of an analysis measured so far, the standard path first, by t."""
    return session.scalars(
        select(AnalysisPoint)
        .join(Job, Job.id == AnalysisPoint.job_id)
        .where(visible(tenant_id), AnalysisPoint.job_id == job_id)
        .order_by(AnalysisPoint.path.desc(), AnalysisPoint.t)
    ).all()


def artifacts(session: Session, *, tenant_id: UUID, job_id: UUID) -> Sequence[Artifact]:
    """The files that the job made, by name."""
    return session.scalars(
        select(Artifact)
        .join(Job, Job.id == Artifact.job_id)
        .where(visible(tenant_id), Artifact.job_id == job_id)
        .order_by(Artifact.name)
    ).all()


def artifact(session: Session, *, tenant_id: UUID, job_id: UUID, name: str) -> Artifact | None:
    """One file that the job made, or None."""
    return session.scalar(
        select(Artifact)
        .join(Job, Job.id == Artifact.job_id)
        .where(visible(tenant_id), Artifact.job_id == job_id, Artifact.name == name)
    )
