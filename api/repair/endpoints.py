"""Routes of the repair jobs."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.conditional import conditional
from api.dependencies import CallerDep, IdempotencyKey, PartsDep
from api.openapi import problems
from api.repair import service
from api.repair.schemas import Curve, Job, JobPage, Preflight, RepairRequest

router = APIRouter(prefix="/repair", tags=["repair"])

State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
_PREFLIGHT: dict[int | str, dict[str, Any]] = {
    200: {"model": Preflight, "description": "`validate_only`: nothing was started."}
}
_KEY_PROBLEMS = ("idempotency-key-in-use", "idempotency-key-reused")
_SUBMIT_PROBLEMS = (
    "file-not-found",
    "wrong-file-kind",
    "unknown-architecture",
    "architecture-not-recognised",
    "tensors-do-not-match",
    "class-count-does-not-match",
    "classes-do-not-match",
    "preprocessing-does-not-fit",
    "triggered-class-unknown",
    "triggered-shape-differs",
    "triggered-set-missing",
    "second-model-differs",
    "second-model-is-the-suspect",
    "deadline-too-long",
    "too-many-queued-jobs",
    "queue-full",
    "inspector-not-ready",
    "body-too-large",
    *_KEY_PROBLEMS,
)


@router.post(
    "",
    status_code=202,
    response_model=Job,
    summary="Repair a model",
    responses=_PREFLIGHT | problems(*_SUBMIT_PROBLEMS),
)
def submit(parts: PartsDep, caller: CallerDep, body: RepairRequest, key: IdempotencyKey = None) -> Response:
    """Checks all that can be checked at once, queues the job and answers 202 with its `Location`."""
    return service.submit(parts, caller, body, key).response()


@router.get("", summary="List jobs", response_model=JobPage, responses=problems("invalid-cursor"))
def page(
    parts: PartsDep,
    caller: CallerDep,
    state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    label: Annotated[
        str | None, Query(pattern=r"^[^:]+:.*$", max_length=300, description="Only jobs with this label: `key:value`.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
) -> JobPage:
    """Newest first."""
    key, _, value = (label or "").partition(":")
    wanted = (key, value) if label else None
    return service.page(parts, caller, state=state, label=wanted, limit=limit, cursor=cursor)


@router.get("/{job_id}", summary="Show a job", response_model=Job, responses=problems("job-not-found"))
def show(request: Request, parts: PartsDep, caller: CallerDep, job_id: str) -> Response:
    """State, stage, progress and, at the end, the result or the problem. 304 where `If-None-Match` still holds."""
    job = service.show(parts, caller, job_id)
    return conditional(request, job, service.retry_after(job))


@router.get("/{job_id}/curve", summary="Show the curve", response_model=Curve, responses=problems("job-not-found"))
def curve(request: Request, parts: PartsDep, caller: CallerDep, job_id: str) -> Response:
    """Accuracy and attack success rate along the path, as far as it has been swept."""
    return conditional(request, service.curve(parts, caller, job_id))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=Job,
    summary="Cancel a job",
    responses=problems("job-not-found", "job-already-ended", *_KEY_PROBLEMS),
)
def cancel(parts: PartsDep, caller: CallerDep, job_id: str, key: IdempotencyKey = None) -> Response:
    """A queued job is cancelled at once; a running one is `cancelling` until its worker has stopped."""
    return service.cancel(parts, caller, job_id, key).response()


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=Job,
    summary="Retry a job",
    responses=problems(
        "job-not-found", "job-cannot-be-retried", "file-not-found", "too-many-queued-jobs", "queue-full", *_KEY_PROBLEMS
    ),
)
def retry(parts: PartsDep, caller: CallerDep, job_id: str, key: IdempotencyKey = None) -> Response:
    """Starts a failed or cancelled job's request again, as a new job."""
    return service.retry(parts, caller, job_id, key).response()
