"""Posts, shows, lists, cancels and retries repair jobs."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError
from api.idempotency import Answer, Post, once
from api.repair.present import location, present_curve, present_job
from api.repair.resolve import Resolved, resolve
from api.repair.schemas import Curve, Job, JobPage, Preflight, Queue, RepairRequest, ResolvedArchitecture
from store import jobs, queue, tables
from store.database import transaction
from store.tables import ENDED_STATES


def submit(parts: Parts, caller: Caller, body: RepairRequest, key: str | None) -> Answer:
    """Check the request, queue the job, then tell a worker. A refusal leaves nothing behind."""
    if body.validate_only:
        return Answer(200, _preflight(parts, caller, body).model_dump(mode="json"))
    post = Post(caller.tenant_id, key, "POST /repair", body.model_dump(mode="json"))

    def work(session: Session) -> Answer:
        parts.queue_room.require(session)
        job = _create(session, parts, caller, body, resolve(session, parts, caller, body))
        return _accepted(session, job)

    answer = once(parts.factory, post, work)
    _announce(parts, answer)
    return answer


def _create(session: Session, parts: Parts, caller: Caller, body: RepairRequest, resolved: Resolved) -> tables.Job:
    inputs = resolved.inputs
    return jobs.create_job(
        session,
        tenant_id=caller.tenant_id,
        request=resolved.request,
        suspect_file_id=inputs.suspect.id,
        clean_file_id=inputs.clean.id,
        triggered_file_id=inputs.triggered.id if inputs.triggered else None,
        second_file_id=inputs.second_model.id if inputs.second_model else None,
        labels=body.labels,
        seed=body.method.seed,
        deadline=resolved.deadline,
        retention=timedelta(days=parts.settings.retention_days),
        max_queued=parts.settings.max_queued_jobs,
    )


def _preflight(parts: Parts, caller: Caller, body: RepairRequest) -> Preflight:
    """All that `submit` does, in a transaction that is never committed."""
    with parts.factory() as session:
        parts.queue_room.require(session)
        resolved = resolve(session, parts, caller, body)
        job = _create(session, parts, caller, body, resolved)
        before = jobs.queue_position(session, tenant_id=caller.tenant_id, job_id=job.id) or 0
    return Preflight(
        would_run=resolved.request,
        architecture=ResolvedArchitecture.model_validate(resolved.request["architecture"]),
        classes=resolved.request["classes"],
        estimate=resolved.estimate,
        queue=Queue(jobs_before=before, seconds=round(before * resolved.estimate.seconds, 1)),
    )


def retry(parts: Parts, caller: Caller, job_id: str, key: str | None) -> Answer:
    """Queue a failed or cancelled job's request again, as a new job."""
    parsed = parse_id(job_id, "job-not-found", "job")

    def work(session: Session) -> Answer:
        parts.queue_room.require(session)
        job = jobs.retry(session, tenant_id=caller.tenant_id, job_id=parsed, max_queued=parts.settings.max_queued_jobs)
        if job is None:
            raise missing("job-not-found", "job", job_id)
        return _accepted(session, job)

    answer = once(parts.factory, Post(caller.tenant_id, key, f"POST {location(parsed)}/retry"), work)
    _announce(parts, answer)
    return answer


def cancel(parts: Parts, caller: Caller, job_id: str, key: str | None) -> Answer:
    """Ask a job to stop. Raises ApiError `job-already-ended` if it had ended otherwise."""
    parsed = parse_id(job_id, "job-not-found", "job")

    def work(session: Session) -> Answer:
        job = jobs.request_cancel(session, tenant_id=caller.tenant_id, job_id=parsed)
        if job is None:
            raise missing("job-not-found", "job", job_id)
        if job.state in ("succeeded", "failed"):
            raise ApiError("job-already-ended", f"The job's state is `{job.state}`.", state=job.state)
        return Answer(202, _present(session, job).model_dump(mode="json"), {"Location": location(job.id)})

    return once(parts.factory, Post(caller.tenant_id, key, f"POST {location(parsed)}/cancel"), work)


def show(parts: Parts, caller: Caller, job_id: str) -> Job:
    """One job of the caller. Raises ApiError `job-not-found`."""
    with transaction(parts.factory) as session:
        return _present(session, find(session, caller, job_id))


def page(
    parts: Parts, caller: Caller, *, state: str | None, label: tuple[str, str] | None, limit: int, cursor: str | None
) -> JobPage:
    """One page of the caller's jobs, newest first. Raises store.errors.BadCursor."""
    with transaction(parts.factory) as session:
        rows, following = jobs.list_jobs(
            session, tenant_id=caller.tenant_id, state=state, label=label, limit=limit, cursor=cursor
        )
        return JobPage(items=[_present(session, row) for row in rows], next=following)


def curve(parts: Parts, caller: Caller, job_id: str) -> Curve:
    """The points swept so far. Raises ApiError `job-not-found`."""
    with transaction(parts.factory) as session:
        job = find(session, caller, job_id)
        points = jobs.curve(session, tenant_id=caller.tenant_id, job_id=job.id)
        return present_curve(list(points), job.result)


def find(session: Session, caller: Caller, job_id: str) -> tables.Job:
    """The row of a job of the caller. Raises ApiError `job-not-found`."""
    parsed: UUID = parse_id(job_id, "job-not-found", "job")
    row = jobs.get_job(session, tenant_id=caller.tenant_id, job_id=parsed)
    if row is None:
        raise missing("job-not-found", "job", job_id)
    return row


def retry_after(job: Job) -> dict[str, str]:
    """When to ask again: soon while it runs, never once it has ended."""
    if job.state in ENDED_STATES:
        return {}
    return {"Retry-After": "5" if job.state == "queued" else "2"}


def _present(session: Session, row: tables.Job) -> Job:
    before = jobs.queue_position(session, tenant_id=row.tenant_id, job_id=row.id) if row.state == "queued" else None
    return present_job(row, jobs_before=before)


def _accepted(session: Session, job: tables.Job) -> Answer:
    shown = _present(session, job)
    return Answer(202, shown.model_dump(mode="json"), {"Location": location(job.id), **retry_after(shown)})


def _announce(parts: Parts, answer: Answer) -> None:
    """After the commit: tell the workers. A lost message costs time, never the job: their sweep finds it."""
    if not answer.fresh or answer.body is None:
        return
    parts.metrics.jobs_accepted.inc()
    parts.queue_room.add()
    job_id = UUID(answer.body["id"])
    if queue.send_job(parts.settings.redis_url, job_id):
        with transaction(parts.factory) as session:
            jobs.mark_enqueued(session, job_ids=[job_id])
