"""What a tenant asks of its jobs: create, cancel, retry. Messages to workers are sent after the commit."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.database import flush_and_read
from store.errors import NoSuchFile, NotRetryable, QueueFull
from store.job_reads import visible
from store.job_transitions import add_event, end_cancelled
from store.quotas import lock_tenant
from store.tables import ENDED_STATES, IS_QUEUED, File, Job, JobLabel

# kind of job -> what its request calls each of its files; the columns' names less "_file_id"
ROLES = {
    "repair": {"suspect": "suspect", "clean": "clean", "triggered": "triggered", "second": "second_model"},
    "analysis": {"suspect": "regular", "clean": "clean", "second": "robust"},
    "diagnosis": {"suspect": "suspect", "clean": "clean"},
}
FILE_KIND = {"suspect": "model", "clean": "clean", "triggered": "triggered", "second": "model"}


def create_job(
    session: Session,
    *,
    tenant_id: UUID,
    kind: str = "repair",
    request: dict[str, Any],
    suspect_file_id: UUID,
    clean_file_id: UUID,
    triggered_file_id: UUID | None = None,
    second_file_id: UUID | None = None,
    labels: Mapping[str, str],
    seed: int,
    deadline: timedelta,
    retention: timedelta,
    max_queued: int,
    retried_from: UUID | None = None,
) -> Job:
    """Queue a job. `deadline` counts from now; results are kept for `retention` after the end.

    The files it names are kept at least as long as the job and its results.
    Raises QueueFull when the tenant has `max_queued` jobs queued (or as many as its own limit says);
    NoSuchFile for a file that cannot be used.
    """
    _leave_room(session, tenant_id, max_queued)
    files = {
        "suspect": suspect_file_id,
        "clean": clean_file_id,
        "triggered": triggered_file_id,
        "second": second_file_id,
    }
    _keep_files(session, tenant_id, kind, files, deadline + retention)
    job = Job(
        id=uuid4(),
        tenant_id=tenant_id,
        kind=kind,
        request=request,
        labels=dict(labels),
        seed=seed,
        suspect_file_id=suspect_file_id,
        clean_file_id=clean_file_id,
        triggered_file_id=triggered_file_id,
        second_file_id=second_file_id,
        deadline_at=func.now() + deadline,
        retention=retention,
        retried_from=retried_from,
    )
    session.add(job)
    flush_and_read(session, job)
    session.add_all(
        JobLabel(job_id=job.id, key=key, value=value, tenant_id=tenant_id, kind=kind, created_at=job.created_at)
        for key, value in labels.items()
    )
    add_event(session, job.id, "state", {"state": "queued"})
    session.flush()
    return job


def _leave_room(session: Session, tenant_id: UUID, max_queued: int) -> None:
    """Raise QueueFull if the tenant may queue no more. Its creations go one by one, so the limit is exact."""
    own_limit = lock_tenant(session, tenant_id).max_queued_jobs
    max_queued = max_queued if own_limit is None else own_limit
    queued = select(Job.id).where(Job.tenant_id == tenant_id, IS_QUEUED).limit(max_queued)
    if len(session.scalars(queued).all()) >= max_queued:
        raise QueueFull(max_queued)


def _keep_files(
    session: Session, tenant_id: UUID, kind: str, files: Mapping[str, UUID | None], keep: timedelta
) -> None:
    """Lock the files against deletion until this transaction ends and prolong their life. Raises NoSuchFile."""
    wanted = sorted({file_id for file_id in files.values() if file_id is not None})
    found = session.execute(
        update(File)
        .where(
            File.id.in_(
                select(File.id)
                .where(
                    File.tenant_id == tenant_id,
                    File.id.in_(wanted),
                    File.deleted_at.is_(None),
                    File.expires_at > func.now(),
                )
                .order_by(File.id)
                .with_for_update(key_share=True)
            )
        )
        .values(expires_at=func.greatest(File.expires_at, func.now() + keep))
        .returning(File.id, File.kind)
        .execution_options(synchronize_session=False)
    )
    kinds = {row.id: row.kind for row in found}
    for name, file_id in files.items():
        if file_id is not None and kinds.get(file_id) != FILE_KIND[name]:
            raise NoSuchFile(ROLES[kind][name], file_id)


def request_cancel(session: Session, *, tenant_id: UUID, job_id: UUID, kind: str | None = None) -> Job | None:
    """Ask a job to stop: a queued one is cancelled at once, a running one is cancelling until its worker has stopped.

    A job that is being cancelled, or has ended, is returned as it is. None: the tenant has no such job.
    """
    job = _own_job(session, tenant_id, job_id, kind)
    if job is None or job.state in ("cancelling", *ENDED_STATES):
        return job
    job.cancel_requested_at = func.clock_timestamp()
    if job.state == "queued":
        end_cancelled(session, job)
    else:
        job.state = "cancelling"
        add_event(session, job.id, "state", {"state": "cancelling"})
        flush_and_read(session, job)
    return job


def retry(session: Session, *, tenant_id: UUID, job_id: UUID, max_queued: int, kind: str | None = None) -> Job | None:
    """Queue a new job with the request of one that failed or was cancelled. None: the tenant has no such job.

    Raises NotRetryable; QueueFull and NoSuchFile as `create_job` does.
    """
    old = _own_job(session, tenant_id, job_id, kind)
    if old is None:
        return None
    if old.state not in ("failed", "cancelled"):
        raise NotRetryable(old.state)
    return create_job(
        session,
        tenant_id=tenant_id,
        kind=old.kind,
        request=old.request,
        suspect_file_id=old.suspect_file_id,
        clean_file_id=old.clean_file_id,
        triggered_file_id=old.triggered_file_id,
        second_file_id=old.second_file_id,
        labels=old.labels,
        seed=old.seed,
        deadline=old.deadline_at - old.created_at,
        retention=old.retention,
        max_queued=max_queued,
        retried_from=old.id,
    )


def _own_job(session: Session, tenant_id: UUID, job_id: UUID, kind: str | None) -> Job | None:
    """The tenant's job, its row locked until this transaction ends."""
    return session.scalar(
        select(Job)
        .where(visible(tenant_id, kind), Job.id == job_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
