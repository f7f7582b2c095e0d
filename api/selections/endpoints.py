"""Routes of the selections."""

from fastapi import APIRouter, Request, Response

from api.conditional import IF_NONE_MATCH, NOT_MODIFIED, conditional
from api.dependencies import IdempotencyKey, PartsDep, ReaderDep, WriterDep
from api.openapi import JSON_BODY, problems
from api.selections import service
from api.selections.schemas import Selection, SelectionRequest, Selections

router = APIRouter(prefix="/repair/{job_id}/selections", tags=["selections"])


@router.post(
    "",
    status_code=202,
    response_model=Selection,
    summary="Export another t",
    responses=problems(
        "job-not-found",
        "job-not-finished",
        "job-has-no-result",
        "too-many-queued-jobs",
        "idempotency-key-in-use",
        "idempotency-key-reused",
        *JSON_BODY,
    ),
)
def create(
    parts: PartsDep, caller: WriterDep, job_id: str, body: SelectionRequest, key: IdempotencyKey = None
) -> Response:
    """Makes the weights and figures at any t of a finished job's path, without fitting again."""
    return service.create(parts, caller, job_id, body, key).response()


@router.get("", summary="List selections", responses=problems("job-not-found"))
def of_job(parts: PartsDep, caller: ReaderDep, job_id: str) -> Selections:
    """Oldest first."""
    return service.of_job(parts, caller, job_id)


@router.get(
    "/{selection_id}",
    summary="Show a selection",
    response_model=Selection,
    responses=NOT_MODIFIED | problems("job-not-found", "selection-not-found"),
    openapi_extra=IF_NONE_MATCH,
)
def show(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str, selection_id: str) -> Response:
    """State and, at the end, the figures at this t."""
    selection = service.show(parts, caller, job_id, selection_id)
    return conditional(request, selection, service.retry_after(selection))
