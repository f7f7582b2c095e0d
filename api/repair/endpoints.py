"""Routes of the repairs alone; api/jobs, api/events and api/downloads have those of every kind."""

from fastapi import APIRouter, Request, Response

from api.conditional import IF_NONE_MATCH, NOT_MODIFIED, conditional
from api.dependencies import IdempotencyKey, PartsDep, ReaderDep, WriterDep
from api.jobs.endpoints import PREFLIGHT, SUBMIT_PROBLEMS
from api.jobs.service import submit as submit_job
from api.openapi import problems
from api.repair import service
from api.repair.kind import REPAIR
from api.repair.schemas import Curve, Repair, RepairRequest

router = APIRouter(prefix="/repair", tags=["repair"])


@router.post(
    "",
    status_code=202,
    response_model=Repair,
    summary="Repair a model",
    responses=PREFLIGHT
    | problems(
        *SUBMIT_PROBLEMS,
        "triggered-class-unknown",
        "triggered-shape-differs",
        "triggered-set-missing",
        "second-model-differs",
        "second-model-is-the-suspect",
    ),
)
def submit(parts: PartsDep, caller: WriterDep, body: RepairRequest, key: IdempotencyKey = None) -> Response:
    """Checks all that can be checked at once, queues the job and answers 202 with its `Location`."""
    return submit_job(parts, caller, REPAIR, body, key).response()


@router.get(
    "/{job_id}/curve",
    summary="Show the curve",
    response_model=Curve,
    responses=NOT_MODIFIED | problems("job-not-found"),
    openapi_extra=IF_NONE_MATCH,
)
def curve(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
    """Accuracy and attack success rate along the path, as far as it has been swept."""
    return conditional(request, service.curve(parts, caller, job_id))
