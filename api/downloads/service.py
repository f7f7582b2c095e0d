"""Finds what a finished job made and checks that it may be given out."""

from functools import partial

from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts
from api.downloads.schemas import Download
from api.errors import ApiError
from api.jobs.kind import KindName
from api.jobs.service import find_finished
from api.selections.service import artifact_at
from store import jobs, tables
from store.database import tenant_transaction

REPAIRED = "repaired.safetensors"
PATHS = {"standard": "path.safetensors", "robust": "robust-path.safetensors"}


def weights(parts: Parts, caller: Caller, job_id: str, t: float | None) -> Download:
    """The repaired model, or the one at `t`. Raises ApiError (job-*, selection-*, artifact-*)."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find_finished(session, caller, "repair", job_id)
        if t is None or (job.result is not None and t == job.result["t"]):
            return _download(parts, _named(session, caller, job, REPAIRED))
        return _download(parts, artifact_at(session, caller, job, t))


def path(parts: Parts, caller: Caller, job_id: str, name: str) -> Download:
    """A fitted path of an analysis: `standard` or `robust`. Raises ApiError (job-*, artifact-*)."""
    return artifact(parts, caller, "analysis", job_id, PATHS[name])


def artifact(parts: Parts, caller: Caller, kind: KindName, job_id: str, name: str) -> Download:
    """A file that the job made, by its name. Raises ApiError (job-*, artifact-*)."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find_finished(session, caller, kind, job_id)
        return _download(parts, _named(session, caller, job, name))


def _named(session: Session, caller: Caller, job: tables.Job, name: str) -> tables.Artifact:
    row = jobs.artifact(session, tenant_id=caller.tenant_id, job_id=job.id, name=name)
    if row is None:
        names = [other.name for other in jobs.artifacts(session, tenant_id=caller.tenant_id, job_id=job.id)]
        raise ApiError("artifact-not-found", f"The job made no file {name!r}.", artifacts=names)
    return row


def _download(parts: Parts, row: tables.Artifact) -> Download:
    return Download(partial(parts.checked.open, row.path, row.sha256), row.name, row.media_type, row.sha256)
