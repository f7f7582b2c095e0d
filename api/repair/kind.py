"""Repairs as a kind of job."""

from api.jobs.kind import JobKind, location
from api.repair.schemas import Links, Repair, RepairPage
from api.repair.settle import settle
from store import tables


def _links(row: tables.Job) -> Links:
    base = location("repair", row.id)
    parts = ("events", "curve", "weights", "report", "manifest", "attestation", "selections", "cancel", "retry")
    return Links(self=base, **{part: f"{base}/{part}" for part in parts})


REPAIR = JobKind(name="repair", job=Repair, page=RepairPage, settle=settle, links=_links)
