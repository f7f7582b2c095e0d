"""Diagnoses as a kind of job."""

from api.diagnosis.schemas import Diagnosis, DiagnosisPage, Links
from api.diagnosis.settle import settle
from api.jobs.kind import JobKind, location
from store import tables


def _links(row: tables.Job) -> Links:
    base = location("diagnosis", row.id)
    return Links(self=base, **{part: f"{base}/{part}" for part in ("events", "cancel", "retry")})


DIAGNOSIS = JobKind(name="diagnosis", job=Diagnosis, page=DiagnosisPage, settle=settle, links=_links)
