"""Turns a row of the store into the body that shows a job."""

from api.jobs.kind import JobKind
from api.jobs.schemas import Job, Progress
from store import tables

_SAME_NAMES = (
    "id",
    "kind",
    "state",
    "stage",
    "attempt",
    "created_at",
    "started_at",
    "finished_at",
    "deadline_at",
    "expires_at",
    "labels",
    "request",
    "problem",
    "retried_from",
)


def present_job(kind: JobKind, row: tables.Job, *, jobs_before: int | None) -> Job:
    """A job as the API shows it. `jobs_before`: how many queued jobs come before it; None once it has started."""
    shown = {
        "progress": Progress.model_validate(row.progress or {}),
        "queue_position": None if jobs_before is None else jobs_before + 1,
        "architecture": row.request.get("architecture"),
        "result": row.result,
        "warnings": row.result.get("warnings", []) if row.result else [],
        "links": kind.links(row),
    }
    return kind.job.model_validate({name: getattr(row, name) for name in _SAME_NAMES} | shown)
