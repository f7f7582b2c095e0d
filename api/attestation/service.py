"""Attests what a finished job made."""

from api.attestation.signing import Signing
from api.attestation.statement import statement
from api.dependencies import Caller, Parts
from api.errors import ApiError
from api.jobs.kind import KindName
from api.jobs.service import find_finished
from store import files, jobs
from store.database import tenant_transaction

_ROLES = {
    "repair": {
        "suspect": "suspect_file_id",
        "clean": "clean_file_id",
        "triggered": "triggered_file_id",
        "second_model": "second_file_id",
    },
    "analysis": {"regular": "suspect_file_id", "robust": "second_file_id", "clean": "clean_file_id"},
}


def attestation(parts: Parts, caller: Caller, kind: KindName, job_id: str) -> bytes:
    """The signed envelope. Raises ApiError (job-*, signing-key-missing)."""
    signing = signing_of(parts)
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find_finished(session, caller, kind, job_id)
        made = jobs.artifacts(session, tenant_id=caller.tenant_id, job_id=job.id)
        used = files.of_job(session, job)
        inputs = {role: used[file] for role, column in _ROLES[kind].items() if (file := getattr(job, column))}
        return signing.envelope(statement(job, inputs, made, builder_id=parts.settings.builder_id))


def signing_of(parts: Parts) -> Signing:
    """The service's key. Raises ApiError `signing-key-missing`."""
    if parts.signing is None:
        raise ApiError("signing-key-missing", "This service was started without a key to sign with.")
    return parts.signing
