"""Analyses as a kind of job."""

from api.analysis.schemas import Analysis, AnalysisPage, Links
from api.analysis.settle import settle
from api.jobs.kind import JobKind, location
from store import tables


def _links(row: tables.Job) -> Links:
    base = location("analysis", row.id)
    parts = ("events", "points", "report", "manifest", "attestation", "cancel", "retry")
    has_robust_path = row.request["method"]["robust_path"]
    return Links(
        self=base,
        standard_path=f"{base}/paths/standard",
        robust_path=f"{base}/paths/robust" if has_robust_path else None,
        **{part: f"{base}/{part}" for part in parts},
    )


ANALYSIS = JobKind(name="analysis", job=Analysis, page=AnalysisPage, settle=settle, links=_links)
