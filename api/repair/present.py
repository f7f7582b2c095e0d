"""Turns rows of the store into the bodies of the repair routes."""

from uuid import UUID

from api.repair.schemas import Curve, CurvePoint, Job, Links, Progress, Result
from store import tables


def present_job(row: tables.Job, *, jobs_before: int | None) -> Job:
    """A job as the API shows it. `jobs_before`: how many queued jobs come before it; None once it has started."""
    result = Result.model_validate(row.result) if row.result else None
    return Job(
        id=row.id,
        state=row.state,  # type: ignore[arg-type]  # the table allows the same values
        stage=row.stage,
        progress=Progress.model_validate(row.progress or {}),
        queue_position=None if jobs_before is None else jobs_before + 1,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        deadline_at=row.deadline_at,
        expires_at=row.expires_at,
        labels=row.labels,
        request=row.request,
        architecture=row.request.get("architecture"),
        result=result,
        problem=row.problem,
        warnings=result.warnings if result else [],
        retried_from=row.retried_from,
        links=links(row.id),
    )


def links(job_id: UUID) -> Links:
    """Addresses of everything that belongs to a job."""
    base = location(job_id)
    parts = ("events", "curve", "weights", "report", "manifest", "selections", "cancel", "retry")
    return Links(self=base, **{part: f"{base}/{part}" for part in parts})


def location(job_id: UUID) -> str:
    """Address of a job."""
    return f"/repair/{job_id}"


def present_curve(points: list[tables.CurvePoint], result: dict | None) -> Curve:
    """The curve in the order of t."""
    return Curve(
        points=[_point(row) for row in sorted(points, key=lambda row: row.t)],
        chosen_t=result["t"] if result else None,
    )


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
        set=row.set,  # type: ignore[arg-type]  # the table allows the same values
    )
