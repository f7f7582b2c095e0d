"""Routes of the analyses alone; api/jobs, api/events and api/downloads have those of every kind."""

from fastapi import APIRouter, Request, Response

from api.analysis import service
from api.analysis.kind import ANALYSIS
from api.analysis.schemas import Analysis, AnalysisRequest, Points
from api.conditional import IF_NONE_MATCH, NOT_MODIFIED, conditional
from api.dependencies import IdempotencyKey, PartsDep, ReaderDep, WriterDep
from api.jobs.endpoints import PREFLIGHT, SUBMIT_PROBLEMS
from api.jobs.service import submit as submit_job
from api.openapi import problems

router = APIRouter(prefix="/analysis", tags=["analysis"])


@router.post(
    "",
    status_code=202,
    response_model=Analysis,
    summary="Analyse the path between two models",
    responses=PREFLIGHT | problems(*SUBMIT_PROBLEMS, "models-differ", "models-are-the-same"),
)
def submit(parts: PartsDep, caller: WriterDep, body: AnalysisRequest, key: IdempotencyKey = None) -> Response:
    """Losses, errors under attack and input Hessian along the path from a regular to a robust model. Checks all that
    can be checked at once, queues the job and answers 202 with its `Location`."""
    return submit_job(parts, caller, ANALYSIS, body, key).response()


@router.get(
    "/{job_id}/points",
    summary="Show the points",
    response_model=Points,
    responses=NOT_MODIFIED | problems("job-not-found"),
    openapi_extra=IF_NONE_MATCH,
)
def points(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
    """What was measured on the paths, as far as they have been swept."""
    return conditional(request, service.points(parts, caller, job_id))
