"""One row for every table, with a value in every column that may have one."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select

from store.tables import Base
from tests.store.conftest import analysis_point, curve_point

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = datetime(2126, 1, 1, tzinfo=UTC)
TENANT, MODEL, REPAIR, ANALYSIS, WEIGHTS, SELECTION, UPLOAD, DIAGNOSIS = (UUID(int=number) for number in range(1, 9))
ODD = 'tab\t, line\n, \\N, "quoted", ü'
_FIGURES = dict.fromkeys(("eigenvalue", "eigenvalue_low", "eigenvalue_high", "eigenvalue_converged"), 0.1)


def _file() -> dict[str, Any]:
    digests = {"sha256": "ab" * 32, "canonical_sha256": "cd" * 32, "canonical_path": f"files/{TENANT}/{MODEL}/c.npz"}
    known = {"id": MODEL, "tenant_id": TENANT, "kind": "model", "name": ODD, "bytes": 3, "facts": {"a": [1, None]}}
    known["canonical_bytes"] = 2**40
    return {**known, **digests, "created_at": AT, "expires_at": LATER, "deleted_at": None}


def _job(job_id: UUID, kind: str, state: str) -> dict[str, Any]:
    files = dict.fromkeys(("suspect_file_id", "clean_file_id", "triggered_file_id", "second_file_id"), MODEL)
    request = {"method": {"plane": 0}, "tampering": "backdoor"}
    said = {"labels": {"team": ODD}, "progress": {"f": 0.5}, "result": {"t": 0.1}, "problem": {"title": ODD}}
    times = dict.fromkeys(("created_at", "enqueued_at", "started_at", "cancel_requested_at", "finished_at"), AT)
    times |= {"held_back_at": AT, "lease_until": AT, "deadline_at": LATER, "expires_at": LATER}
    times["retention"] = timedelta(days=30)
    counts = {"attempt": 3, "releases": 1, "worker": "w", "seed": 2**40, "stage": "sweeping", "retried_from": MODEL}
    return {"id": job_id, "tenant_id": TENANT, "kind": kind, "state": state, "request": request} | {
        **files,
        **said,
        **times,
        **counts,
    }


def _label(job_id: UUID, kind: str) -> dict[str, Any]:
    return {"job_id": job_id, "key": "team", "value": ODD, "tenant_id": TENANT, "kind": kind, "created_at": AT}


def _event(number: int, job_id: UUID) -> dict[str, Any]:
    return {"id": number, "job_id": job_id, "at": AT, "type": "warning", "data": {"text": ODD}}


def _curve_point(path: str) -> dict[str, Any]:
    return {"job_id": REPAIR, "attempt": 3, **curve_point(0.1, path=path, proxy_success_rate=1 / 3)}


ROWS: dict[str, list[dict[str, Any]]] = {
    "tenants": [
        {"id": TENANT, "name": ODD, "created_at": AT, "stored_bytes": 2**41, "max_stored_bytes": 2**42}
        | dict.fromkeys(("max_queued_jobs", "max_running_jobs", "max_compute_seconds"), 7)
    ],
    "api_keys": [
        {"id": "k", "tenant_id": TENANT, "secret_sha256": "ef" * 32, "label": ODD, "scopes": ["read"]}
        | dict.fromkeys(("created_at", "expires_at", "revoked_at", "last_used_at"), AT)
    ],
    "files": [_file()],
    "partial_uploads": [
        {"id": UPLOAD, "tenant_id": TENANT, "kind": "model", "name": ODD, "bytes": 2**40, "file_id": None}
        | {"problem": None, "created_at": AT, "expires_at": LATER}
    ],
    "jobs": [
        _job(REPAIR, "repair", "succeeded"),
        _job(ANALYSIS, "analysis", "running"),
        _job(DIAGNOSIS, "diagnosis", "failed"),
    ],
    "compute_spans": [{"job_id": REPAIR, "attempt": 3, "tenant_id": TENANT, "started_at": AT, "until": AT}],
    "job_labels": [_label(REPAIR, "repair"), _label(ANALYSIS, "analysis"), _label(DIAGNOSIS, "diagnosis")],
    "job_events": [_event(1007, REPAIR), _event(1009, ANALYSIS), _event(1010, DIAGNOSIS)],
    "curve_points": [_curve_point("main"), _curve_point("unaligned")],
    "analysis_points": [{"job_id": ANALYSIS, "attempt": 3, **analysis_point("robust", 0.1, **_FIGURES)}],
    "artifacts": [
        {"id": WEIGHTS, "job_id": REPAIR, "name": "w", "path": f"jobs/{REPAIR}/3/w", "bytes": 3, "sha256": "12" * 32}
        | {"media_type": "text/plain", "created_at": AT}
    ],
    "selections": [
        {"id": SELECTION, "job_id": REPAIR, "t": 0.1, "state": "succeeded", "figures": {"a": 1}, "problem": {"b": 2}}
        | {"artifact_id": WEIGHTS, "attempt": 1, "lease_until": AT, "worker": "w"}
        | dict.fromkeys(("created_at", "enqueued_at", "started_at", "finished_at"), AT)
    ],
    "idempotency_keys": [
        {"tenant_id": TENANT, "key": ODD, "method_path": "POST /repair", "body_sha256": "34" * 32, "status": 202}
        | {"headers": {"Location": "/x"}, "body": {"id": 1}, "created_at": AT}
    ],
}


def fill(engine: Engine) -> None:
    """Puts the rows into an empty database of the newest schema. A table without a row here is a KeyError."""
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(table.insert(), ROWS[table.name])


def contents(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, in the order of the primary keys."""
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            ]
            for table in Base.metadata.sorted_tables
        }
