"""A kind of job as the routes see it: its name, its bodies, and how a request of it is settled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts
from api.jobs.schemas import Job
from api.jobs.settle import Settled
from store import tables

KindName = Literal["repair", "analysis", "diagnosis"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """One kind. `settle` checks a request of it and fills it in; `links` are the addresses that belong to a job."""

    name: KindName
    job: type[Job]
    page: type[BaseModel]
    settle: Callable[[Session, Parts, Caller, Any], Settled]
    links: Callable[[tables.Job], BaseModel]


def location(name: KindName, job_id: UUID) -> str:
    """Address of a job: its routes have the name of its kind."""
    return f"/{name}/{job_id}"
