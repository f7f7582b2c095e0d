"""Reads a job's events for a stream: in order, without gaps, from where the reader was, to the terminal one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from uuid import UUID

from fastapi.sse import ServerSentEvent
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.dependencies import Caller, Parts
from api.events.schemas import JobEvent
from api.jobs.kind import KindName
from api.jobs.service import find
from store import jobs, tables
from store.database import tenant_transaction
from store.tables import ENDED_STATES

_POLL_SECONDS = 0.4
_BATCH = 200
_RECONNECT_MS = 1000


def known_job(parts: Parts, caller: Caller, kind: KindName, job_id: str) -> UUID:
    """The id of a job of the caller. Raises ApiError `job-not-found` while the answer can still be a 404."""
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        return find(session, caller, kind, job_id).id


async def stream(parts: Parts, caller: Caller, job_id: UUID, after_id: int) -> AsyncIterator[ServerSentEvent]:
    """Events with an id above `after_id` until the terminal one; a reader that had that one already gets it again.

    Between two looks no database connection is held. Ends early when the server stops: the reader comes back with
    its Last-Event-ID.
    """
    read = _reader(parts, caller, job_id)
    yield ServerSentEvent(comment="events of this job", retry=_RECONNECT_MS)
    with parts.metrics.streams.track_inprogress():
        while not parts.stopping.is_set():
            events, gone = await run_in_threadpool(read, after_id)
            for event in events:
                yield _sse(event)
                after_id = event.id
                if event.type in ENDED_STATES:
                    return
            if gone:
                return
            if not events:
                with suppress(TimeoutError):
                    await asyncio.wait_for(parts.stopping.wait(), _POLL_SECONDS)


def _reader(parts: Parts, caller: Caller, job_id: UUID) -> Callable[[int], tuple[list[tables.JobEvent], bool]]:
    """Reads the next events, and whether the job is gone."""

    def read(after_id: int) -> tuple[list[tables.JobEvent], bool]:
        with tenant_transaction(parts.factory, caller.tenant_id) as session:
            # The job first: if it has ended by now, its terminal event is there already.
            job = jobs.get_job(session, tenant_id=caller.tenant_id, job_id=job_id)
            if job is None:
                return [], True
            found = list(events_after(session, caller, job_id, after_id))
            if not found and job.state in ENDED_STATES:
                # The reader had the terminal event, or an id that is none of ours: then the whole history follows.
                found = list(events_after(session, caller, job_id, after_id - 1)) or list(
                    events_after(session, caller, job_id, 0)
                )
            return found, False

    def events_after(session: Session, caller: Caller, job_id: UUID, after_id: int) -> Sequence[tables.JobEvent]:
        return jobs.events_after(session, tenant_id=caller.tenant_id, job_id=job_id, after_id=after_id, limit=_BATCH)

    return read


def _sse(event: tables.JobEvent) -> ServerSentEvent:
    return ServerSentEvent(event=event.type, id=str(event.id), data=JobEvent(at=event.at, **event.data))
