"""Bodies of the selection routes."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from api.jobs.schemas import Fraction, Strict


class SelectionRequest(Strict):
    """Which point of the path to export."""

    t: Fraction


class SelectionLinks(BaseModel):
    """Where the rest of a selection is."""

    self: str
    weights: str


class Selection(BaseModel):
    """Another t of a finished job, exported without fitting again."""

    id: UUID
    job_id: UUID
    t: float
    state: Literal["queued", "running", "succeeded", "failed"]
    figures: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: SelectionLinks


class Selections(BaseModel):
    """All selections of a job."""

    items: list[Selection]
