"""Asks for another t of a finished job, and shows what became of it."""

from uuid import UUID

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError
from api.idempotency import Answer, Post, once
from api.jobs.kind import location
from api.jobs.service import find, find_finished
from api.selections.schemas import Selection, SelectionLinks, SelectionRequest, Selections
from store import jobs, queue, selections, tables
from store.database import tenant_transaction


def create(parts: Parts, caller: Caller, job_id: str, body: SelectionRequest, key: str | None) -> Answer:
    """Queue the export at `t`, or show the one that was asked for before. A refusal leaves nothing behind."""
    parsed = parse_id(job_id, "job-not-found", "job")
    post = Post(caller.tenant_id, key, f"POST {location('repair', parsed)}/selections", body.model_dump(mode="json"))

    def work(session: Session) -> Answer:
        find_finished(session, caller, "repair", job_id)
        row = selections.create(
            session, tenant_id=caller.tenant_id, job_id=parsed, t=body.t, max_queued=parts.settings.max_queued_jobs
        )
        if row is None:
            raise missing("job-not-found", "job", job_id)
        shown = present(row)
        return Answer(202, shown.model_dump(mode="json"), {"Location": shown.links.self, **retry_after(shown)})

    answer = once(parts.factory, post, work)
    _announce(parts, caller, answer)
    return answer


def show(parts: Parts, caller: Caller, job_id: str, selection_id: str) -> Selection:
    """One selection. Raises ApiError `job-not-found`, `selection-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find(session, caller, "repair", job_id)
        parsed = parse_id(selection_id, "selection-not-found", "selection")
        row = selections.get(session, tenant_id=caller.tenant_id, job_id=job.id, selection_id=parsed)
        if row is None:
            raise missing("selection-not-found", "selection", selection_id)
        return present(row)


def of_job(parts: Parts, caller: Caller, job_id: str) -> Selections:
    """All selections of a job, oldest first. Raises ApiError `job-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find(session, caller, "repair", job_id)
        rows = selections.list_of_job(session, tenant_id=caller.tenant_id, job_id=job.id)
        return Selections(items=[present(row) for row in rows])


def artifact_at(session: Session, caller: Caller, job: tables.Job, t: float) -> tables.Artifact:
    """The weights at `t`, if they have been made. Raises ApiError `selection-not-found`, `selection-not-finished`."""
    rows = selections.list_of_job(session, tenant_id=caller.tenant_id, job_id=job.id)
    same_t = [row for row in rows if row.t == t]
    made = {row.id: row for row in jobs.artifacts(session, tenant_id=caller.tenant_id, job_id=job.id)}
    for row in same_t:
        if row.state == "succeeded" and row.artifact_id in made:
            return made[row.artifact_id]
    waiting = next((row for row in same_t if row.state in ("queued", "running")), None)
    address = f"{location('repair', job.id)}/selections"
    if waiting is not None:
        raise ApiError(
            "selection-not-finished",
            f"The model at t = {t:g} is `{waiting.state}`.",
            headers={"Retry-After": "2"},
            state=waiting.state,
            selection=f"{address}/{waiting.id}",
        )
    detail = f'There are no weights at t = {t:g} yet: POST {{"t": {t:g}}} to {address}.'
    raise ApiError("selection-not-found", detail, selections=address)


def present(row: tables.Selection) -> Selection:
    """The body that stands for a row."""
    base = location("repair", row.job_id)
    links = SelectionLinks(self=f"{base}/selections/{row.id}", weights=f"{base}/weights?t={row.t!r}")
    names = ("id", "job_id", "t", "state", "figures", "problem", "created_at", "started_at", "finished_at")
    return Selection(**{name: getattr(row, name) for name in names}, links=links)


def retry_after(selection: Selection) -> dict[str, str]:
    """When to ask again, while it is being made."""
    return {"Retry-After": "2"} if selection.state in ("queued", "running") else {}


def _announce(parts: Parts, caller: Caller, answer: Answer) -> None:
    """After the commit: tell the workers. A lost message costs time only: their sweep finds the selection."""
    if not answer.fresh or answer.body is None or answer.body["state"] != "queued":
        return
    selection_id = UUID(answer.body["id"])
    if queue.send_selection(parts.settings.redis_url, selection_id):
        with tenant_transaction(parts.factory, caller.tenant_id) as session:
            selections.mark_enqueued(session, selection_ids=[selection_id])
