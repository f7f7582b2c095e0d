"""The routes that jobs of every kind have: list, show, cancel, retry."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from api.conditional import IF_NONE_MATCH, NOT_MODIFIED, conditional
from api.dependencies import IdempotencyKey, PartsDep, ReaderDep, WriterDep
from api.jobs import service
from api.jobs.kind import JobKind
from api.jobs.schemas import Preflight, State
from api.openapi import JSON_BODY, problems

KEY_PROBLEMS = ("idempotency-key-in-use", "idempotency-key-reused")
# what can be wrong with a request of any kind
SUBMIT_PROBLEMS = (
    "file-not-found",
    "wrong-file-kind",
    "unknown-architecture",
    "architecture-not-recognised",
    "tensors-do-not-match",
    "class-count-does-not-match",
    "classes-do-not-match",
    "preprocessing-does-not-fit",
    "deadline-too-long",
    "too-many-queued-jobs",
    "queue-full",
    "inspector-not-ready",
    "compute-quota-exceeded",
    *JSON_BODY,
    *KEY_PROBLEMS,
)
PREFLIGHT: dict[int | str, dict[str, object]] = {
    200: {"model": Preflight, "description": "`validate_only`: nothing was started."}
}


def job_routes(kind: JobKind) -> APIRouter:
    """The routes of one kind."""
    router = APIRouter(prefix=f"/{kind.name}", tags=[kind.name])

    @router.get("", summary="List jobs", response_model=kind.page, responses=problems("invalid-cursor"))
    def page(
        parts: PartsDep,
        caller: ReaderDep,
        state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
        label: Annotated[
            str | None,
            Query(
                pattern=r"^[^:\x00-\x1f]+:[^\x00-\x1f]*$",
                max_length=300,
                description="Only jobs with this label: `key:value`.",
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
    ) -> BaseModel:
        """Newest first."""
        key, _, value = (label or "").partition(":")
        wanted = (key, value) if label else None
        return service.page(parts, caller, kind, state=state, label=wanted, limit=limit, cursor=cursor)

    @router.get(
        "/{job_id}",
        summary="Show a job",
        response_model=kind.job,
        responses=NOT_MODIFIED | problems("job-not-found"),
        openapi_extra=IF_NONE_MATCH,
    )
    def show(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
        """State, stage, progress and, at the end, the result or the problem. 304 where `If-None-Match` still holds."""
        job = service.show(parts, caller, kind, job_id)
        return conditional(request, job, service.retry_after(job))

    @router.post(
        "/{job_id}/cancel",
        status_code=202,
        response_model=kind.job,
        summary="Cancel a job",
        responses=problems("job-not-found", "job-already-ended", *KEY_PROBLEMS),
    )
    def cancel(parts: PartsDep, caller: WriterDep, job_id: str, key: IdempotencyKey = None) -> Response:
        """A queued job is cancelled at once; a running one is `cancelling` until its worker has stopped."""
        return service.cancel(parts, caller, kind, job_id, key).response()

    @router.post(
        "/{job_id}/retry",
        status_code=202,
        response_model=kind.job,
        summary="Retry a job",
        responses=problems(
            "job-not-found",
            "job-cannot-be-retried",
            "file-not-found",
            "too-many-queued-jobs",
            "compute-quota-exceeded",
            "queue-full",
            *KEY_PROBLEMS,
        ),
    )
    def retry(parts: PartsDep, caller: WriterDep, job_id: str, key: IdempotencyKey = None) -> Response:
        """Starts a failed or cancelled job's request again, as a new job."""
        return service.retry(parts, caller, kind, job_id, key).response()

    return router
