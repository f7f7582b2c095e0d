"""The route that posts a diagnosis; api/jobs and api/events have the others."""

from fastapi import APIRouter, Response

from api.dependencies import IdempotencyKey, PartsDep, WriterDep
from api.diagnosis.kind import DIAGNOSIS
from api.diagnosis.schemas import Diagnosis, DiagnosisRequest
from api.jobs.endpoints import PREFLIGHT, SUBMIT_PROBLEMS
from api.jobs.service import submit as submit_job
from api.openapi import problems

router = APIRouter(prefix="/diagnosis", tags=["diagnosis"])


@router.post(
    "",
    status_code=202,
    response_model=Diagnosis,
    summary="Measure a model on clean images",
    responses=PREFLIGHT | problems(*SUBMIT_PROBLEMS),
)
def submit(parts: PartsDep, caller: WriterDep, body: DiagnosisRequest, key: IdempotencyKey = None) -> Response:
    """How the model does as it is described, in seconds; where it could do far better, which normalisation, channel
    order or class order suits it. A repair does the same before it starts."""
    return submit_job(parts, caller, DIAGNOSIS, body, key).response()
