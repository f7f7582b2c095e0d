"""The curve of a repair."""

from collections.abc import Sequence

from api.dependencies import Caller, Parts
from api.jobs.service import find
from api.repair.schemas import Curve, CurvePoint
from store import jobs, tables
from store.database import tenant_transaction


def curve(parts: Parts, caller: Caller, job_id: str) -> Curve:
    """The points swept so far, in the order of t. Raises ApiError `job-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find(session, caller, "repair", job_id)
        rows = jobs.curve(session, tenant_id=caller.tenant_id, job_id=job.id)
        return Curve(
            points=_of_path(rows, "main"),
            unaligned=_of_path(rows, "unaligned"),
            chosen_t=job.result["t"] if job.result else None,
        )


def _of_path(rows: Sequence[tables.CurvePoint], path: str) -> list[CurvePoint]:
    return [_point(row) for row in rows if row.path == path]


def _point(row: tables.CurvePoint) -> CurvePoint:
    asr_interval = None if row.asr_low is None or row.asr_high is None else (row.asr_low, row.asr_high)
    return CurvePoint(
        t=row.t,
        clean_accuracy=row.clean_accuracy,
        clean_accuracy_interval=(row.clean_accuracy_low, row.clean_accuracy_high),
        attack_success_rate=row.attack_success_rate,
        attack_success_rate_interval=asr_interval,
        proxy_success_rate=row.proxy_success_rate,
        clean_loss=row.clean_loss,
        clean_confidence=row.clean_confidence,
        set=row.set,  # type: ignore[arg-type]  # the table allows the same values
    )
