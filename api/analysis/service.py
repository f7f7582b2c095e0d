"""The points of an analysis."""

from api.analysis.schemas import Point, Points
from api.dependencies import Caller, Parts
from api.jobs.service import find
from store import jobs, tables
from store.database import tenant_transaction

_SAME_NAMES = (
    "path",
    "t",
    "clean_loss",
    "clean_error",
    "robust_loss",
    "robust_error",
    "eigenvalue",
    "eigenvalue_converged",
)
_WITH_INTERVAL = ("clean_error", "robust_loss", "robust_error", "eigenvalue")


def points(parts: Parts, caller: Caller, job_id: str) -> Points:
    """The points measured so far, of both paths. Raises ApiError `job-not-found`."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        job = find(session, caller, "analysis", job_id)
        rows = jobs.analysis_points(session, tenant_id=caller.tenant_id, job_id=job.id)
        return Points(points=[_point(row) for row in rows])


def _point(row: tables.AnalysisPoint) -> Point:
    intervals = {f"{name}_interval": _interval(row, name) for name in _WITH_INTERVAL}
    return Point.model_validate({name: getattr(row, name) for name in _SAME_NAMES} | intervals)


def _interval(row: tables.AnalysisPoint, name: str) -> tuple[float, float] | None:
    low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
    return None if low is None or high is None else (low, high)
