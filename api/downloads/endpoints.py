"""Routes of what a finished job made."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import CallerDep, PartsDep
from api.downloads import service
from api.downloads.response import send
from api.openapi import problems
from api.repair.schemas import Fraction

router = APIRouter(prefix="/repair/{job_id}", tags=["results"])

_PROBLEMS = (
    "job-not-found",
    "job-not-finished",
    "job-has-no-result",
    "artifact-not-found",
    "artifact-gone",
    "stored-file-damaged",
)


def _ok(media_type: str, description: str) -> dict[int | str, dict[str, object]]:
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string", "format": "binary"}
    return {200: {"description": description, "content": {media_type: {"schema": schema}}}}


@router.get(
    "/weights",
    summary="Download the repaired model",
    response_class=Response,
    responses=_ok("application/octet-stream", "A safetensors file. Ranges are served (206); the ETag is its SHA-256.")
    | problems(*_PROBLEMS, "selection-not-found", "selection-not-finished", "range-not-satisfiable"),
)
def weights(
    request: Request,
    parts: PartsDep,
    caller: CallerDep,
    job_id: str,
    t: Annotated[Fraction | None, Query(description="Another point of the path, once it has been selected.")] = None,
) -> Response:
    """The upload's keys, order, types and shapes. `Repr-Digest` carries the SHA-256."""
    return send(request, service.weights(parts, caller, job_id, t))


@router.get(
    "/report",
    summary="Show the report",
    response_class=Response,
    responses=_ok("text/html", "One self-contained page without scripts.") | problems(*_PROBLEMS),
)
def report(request: Request, parts: PartsDep, caller: CallerDep, job_id: str) -> Response:
    """What was gained and lost, the curve, the findings."""
    return send(request, service.artifact(parts, caller, job_id, "report.html"), inline=True)


@router.get(
    "/report.json",
    summary="Show the report as JSON",
    response_class=Response,
    responses=_ok("application/json", "The figures of the report.") | problems(*_PROBLEMS),
)
def report_json(request: Request, parts: PartsDep, caller: CallerDep, job_id: str) -> Response:
    """The same figures for programs."""
    return send(request, service.artifact(parts, caller, job_id, "report.json"), inline=True)


@router.get(
    "/manifest",
    summary="Show the manifest",
    response_class=Response,
    responses=_ok("application/json", "All that is needed to get the same numbers again.") | problems(*_PROBLEMS),
)
def manifest(request: Request, parts: PartsDep, caller: CallerDep, job_id: str) -> Response:
    """Seeds, versions, hashes of the inputs, the request."""
    return send(request, service.artifact(parts, caller, job_id, "manifest.json"), inline=True)


@router.get(
    "/artifacts/{name}",
    summary="Download a file of the job",
    response_class=Response,
    responses=_ok("application/octet-stream", "The file.") | problems(*_PROBLEMS, "range-not-satisfiable"),
)
def artifact(request: Request, parts: PartsDep, caller: CallerDep, job_id: str, name: str) -> Response:
    """Any file that `result.artifacts` names: pictures of the triggers, the curve, the path."""
    return send(request, service.artifact(parts, caller, job_id, name))
