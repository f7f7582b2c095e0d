"""The route of the live stream, for jobs of every kind."""

from collections.abc import AsyncIterable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.dependencies import PartsDep, ReaderDep
from api.events import service
from api.jobs.kind import JobKind
from api.openapi import problems


def event_routes(kind: JobKind) -> APIRouter:
    """The stream of one kind of job."""
    router = APIRouter(prefix=f"/{kind.name}", tags=[kind.name])

    def known_job(parts: PartsDep, caller: ReaderDep, job_id: str) -> UUID:
        """Checked before the stream starts: after that there is no way to answer 404."""
        return service.known_job(parts, caller, kind.name, job_id)

    @router.get(
        "/{job_id}/events",
        summary="Follow a job",
        response_class=EventSourceResponse,
        responses=problems("job-not-found"),
    )
    async def events(
        parts: PartsDep,
        caller: ReaderDep,
        job_id: Annotated[UUID, Depends(known_job)],
        last_event_id: Annotated[
            int, Header(alias="Last-Event-ID", ge=0, lt=2**63, description="Where to go on: the last id that was read.")
        ] = 0,
    ) -> AsyncIterable[ServerSentEvent]:
        """Server-sent events: `state`, `stage`, `progress`, `point` and `warning`, at last `succeeded`, `failed` or
        `cancelled`. `data` is JSON with the time in `at`. Without `Last-Event-ID` the whole history comes first."""
        async for event in service.stream(parts, caller, job_id, last_event_id):
            yield event

    return router
