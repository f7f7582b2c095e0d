"""Posts, shows, lists, cancels and retries jobs of any kind."""

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError
from api.idempotency import Answer, Post, once
from api.jobs.kind import JobKind, KindName, location
from api.jobs.present import present_job
from api.jobs.schemas import Job, JobRequest, Preflight, Queue, ResolvedArchitecture
from api.jobs.settle import Settled
from store import jobs, queue, quotas, tables
from store.database import bind_tenant, tenant_transaction
from store.tables import ENDED_STATES


def submit(parts: Parts, caller: Caller, kind: JobKind, body: JobRequest, key: str | None) -> Answer:
    """Check the request, queue the job, then tell a worker. A refusal leaves nothing behind."""
    if body.validate_only:
        return Answer(200, _preflight(parts, caller, kind, body).model_dump(mode="json"))
    post = Post(caller.tenant_id, key, f"POST /{kind.name}", body.model_dump(mode="json"))

    def work(session: Session) -> Answer:
        parts.queue_room.require(session)
        _require_compute(session, parts, caller)
        job = _create(session, parts, caller, kind, body, kind.settle(session, parts, caller, body))
        return _accepted(session, kind, job)

    answer = once(parts.factory, post, work)
    _announce(parts, caller, kind, answer)
    return answer


def _create(
    session: Session, parts: Parts, caller: Caller, kind: JobKind, body: JobRequest, settled: Settled
) -> tables.Job:
    return jobs.create_job(
        session,
        tenant_id=caller.tenant_id,
        kind=kind.name,
        request=settled.request,
        **settled.files,
        labels=body.labels,
        seed=body.seed,
        deadline=settled.deadline,
        retention=timedelta(days=parts.settings.retention_days),
        max_queued=parts.settings.max_queued_jobs,
    )


def _preflight(parts: Parts, caller: Caller, kind: JobKind, body: JobRequest) -> Preflight:
    """All that `submit` does, in a transaction that is never committed."""
    with parts.factory() as session:
        bind_tenant(session, caller.tenant_id)
        parts.queue_room.require(session)
        _require_compute(session, parts, caller)
        settled = kind.settle(session, parts, caller, body)
        job = _create(session, parts, caller, kind, body, settled)
        before = jobs.queue_position(session, tenant_id=caller.tenant_id, job_id=job.id) or 0
    return Preflight(
        would_run=settled.request,
        architecture=ResolvedArchitecture.model_validate(settled.request["architecture"]),
        classes=settled.request["classes"],
        estimate=settled.estimate,
        queue=Queue(jobs_before=before, seconds=round(before * settled.estimate.seconds, 1)),
    )


def _require_compute(session: Session, parts: Parts, caller: Caller) -> None:
    quotas.require_compute(session, tenant_id=caller.tenant_id, default=quotas.Limits.default(parts.settings))


def retry(parts: Parts, caller: Caller, kind: JobKind, job_id: str, key: str | None) -> Answer:
    """Queue a failed or cancelled job's request again, as a new job."""
    parsed = parse_id(job_id, "job-not-found", "job")

    def work(session: Session) -> Answer:
        parts.queue_room.require(session)
        _require_compute(session, parts, caller)
        job = jobs.retry(
            session,
            tenant_id=caller.tenant_id,
            job_id=parsed,
            kind=kind.name,
            max_queued=parts.settings.max_queued_jobs,
        )
        if job is None:
            raise missing("job-not-found", "job", job_id)
        return _accepted(session, kind, job)

    answer = once(parts.factory, Post(caller.tenant_id, key, f"POST {location(kind.name, parsed)}/retry"), work)
    _announce(parts, caller, kind, answer)
    return answer


def cancel(parts: Parts, caller: Caller, kind: JobKind, job_id: str, key: str | None) -> Answer:
    """Ask a job to stop. Raises ApiError `job-already-ended` if it had ended otherwise."""
    parsed = parse_id(job_id, "job-not-found", "job")
    address = location(kind.name, parsed)

    def work(session: Session) -> Answer:
        job = jobs.request_cancel(session, tenant_id=caller.tenant_id, job_id=parsed, kind=kind.name)
        if job is None:
            raise missing("job-not-found", "job", job_id)
        if job.state in ("succeeded", "failed"):
            raise ApiError("job-already-ended", f"The job's state is `{job.state}`.", state=job.state)
        return Answer(202, _present(session, kind, job).model_dump(mode="json"), {"Location": address})

    return once(parts.factory, Post(caller.tenant_id, key, f"POST {address}/cancel"), work)


def show(parts: Parts, caller: Caller, kind: JobKind, job_id: str) -> Job:
    """One job of the caller. Raises ApiError `job-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        return _present(session, kind, find(session, caller, kind.name, job_id))


def page(
    parts: Parts,
    caller: Caller,
    kind: JobKind,
    *,
    state: str | None,
    label: tuple[str, str] | None,
    limit: int,
    cursor: str | None,
) -> BaseModel:
    """One page of the caller's jobs of a kind, newest first. Raises store.errors.BadCursor."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        rows, following = jobs.list_jobs(
            session, tenant_id=caller.tenant_id, kind=kind.name, state=state, label=label, limit=limit, cursor=cursor
        )
        return kind.page(items=[_present(session, kind, row) for row in rows], next=following)


def find(session: Session, caller: Caller, kind: KindName, job_id: str) -> tables.Job:
    """The row of a job of the caller. Raises ApiError `job-not-found`, also for a job of another kind."""
    parsed: UUID = parse_id(job_id, "job-not-found", "job")
    row = jobs.get_job(session, tenant_id=caller.tenant_id, job_id=parsed, kind=kind)
    if row is None:
        raise missing("job-not-found", "job", job_id)
    return row


def find_finished(session: Session, caller: Caller, kind: KindName, job_id: str) -> tables.Job:
    """A job that succeeded. Raises ApiError `job-not-found`, `job-not-finished`, `job-has-no-result`."""
    job = find(session, caller, kind, job_id)
    if job.state in ("failed", "cancelled"):
        raise ApiError("job-has-no-result", f"The job's state is `{job.state}`.", state=job.state, job=str(job.id))
    if job.state != "succeeded":
        raise ApiError(
            "job-not-finished",
            f"The job's state is `{job.state}`.",
            headers={"Retry-After": "2"},
            state=job.state,
            stage=job.stage,
            progress=job.progress,
            job=str(job.id),
        )
    return job


def retry_after(job: Job) -> dict[str, str]:
    """When to ask again: soon while it runs, never once it has ended."""
    if job.state in ENDED_STATES:
        return {}
    return {"Retry-After": "5" if job.state == "queued" else "2"}


def _present(session: Session, kind: JobKind, row: tables.Job) -> Job:
    before = jobs.queue_position(session, tenant_id=row.tenant_id, job_id=row.id) if row.state == "queued" else None
    return present_job(kind, row, jobs_before=before)


def _accepted(session: Session, kind: JobKind, job: tables.Job) -> Answer:
    shown = _present(session, kind, job)
    headers = {"Location": location(kind.name, job.id), **retry_after(shown)}
    return Answer(202, shown.model_dump(mode="json"), headers)


def _announce(parts: Parts, caller: Caller, kind: JobKind, answer: Answer) -> None:
    """After the commit: tell the workers. A lost message costs time, never the job: their sweep finds it."""
    if not answer.fresh or answer.body is None:
        return
    parts.metrics.jobs_accepted.labels(kind.name).inc()
    parts.queue_room.add()
    job_id = UUID(answer.body["id"])
    if queue.send_job(parts.settings.redis_url, job_id):
        with tenant_transaction(parts.factory, caller.tenant_id) as session:
            jobs.mark_enqueued(session, job_ids=[job_id])
