"""Routes of what a finished job made: the files of every kind of job, and the models of each."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.conditional import IF_NONE_MATCH, NOT_MODIFIED
from api.dependencies import PartsDep, ReaderDep
from api.downloads import service
from api.downloads.response import send
from api.jobs.kind import JobKind
from api.jobs.schemas import Fraction
from api.openapi import problems

_PROBLEMS = (
    "job-not-found",
    "job-not-finished",
    "job-has-no-result",
    "artifact-not-found",
    "artifact-gone",
    "stored-file-damaged",
    "range-not-satisfiable",
)


_RANGE = {
    "name": "Range",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The bytes that you want: `bytes=FIRST-LAST`.",
}
_ASKED = {"parameters": [_RANGE, *IF_NONE_MATCH["parameters"]]}


def _ok(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """The whole file as JSON or bytes, a part of it as bytes whatever it is, or nothing new."""
    part = {"schema": {"type": "string", "format": "binary"}}
    whole = {media: {"schema": {"type": "object"}} if media == "application/json" else part for media in media_types}
    parts = {media: {} if media == "application/json" else part for media in media_types}
    return {
        200: {"description": description, "content": whole},
        206: {"description": "The bytes that `Range` asks for.", "content": parts},
        **NOT_MODIFIED,
    }


_SAFETENSORS = _ok("A safetensors file; the ETag is its SHA-256.", "application/octet-stream")
_ANY_FILE = _ok("The file.", "application/octet-stream", "application/json", "image/png", "text/html")

models = APIRouter(tags=["results"])


@models.get(
    "/repair/{job_id}/weights",
    summary="Download the repaired model",
    response_class=Response,
    openapi_extra=_ASKED,
    responses=_SAFETENSORS | problems(*_PROBLEMS, "selection-not-found", "selection-not-finished"),
)
def weights(
    request: Request,
    parts: PartsDep,
    caller: ReaderDep,
    job_id: str,
    t: Annotated[Fraction | None, Query(description="Another point of the path, once it has been selected.")] = None,
) -> Response:
    """The upload's keys, order, types and shapes. `Repr-Digest` carries the SHA-256."""
    return send(request, service.weights(parts, caller, job_id, t))


@models.get(
    "/analysis/{job_id}/paths/{path}",
    summary="Download a fitted path",
    response_class=Response,
    openapi_extra=_ASKED,
    responses=_SAFETENSORS | problems(*_PROBLEMS),
)
def path(
    request: Request, parts: PartsDep, caller: ReaderDep, job_id: str, path: Literal["standard", "robust"]
) -> Response:
    """The ends and bends of the path: `modeconn_core.curve.ModePath` reads them. `Repr-Digest` carries the SHA-256."""
    return send(request, service.path(parts, caller, job_id, path))


def result_routes(kind: JobKind) -> APIRouter:
    """The files of one kind of job."""
    router = APIRouter(prefix=f"/{kind.name}/{{job_id}}", tags=["results"])

    @router.get(
        "/report",
        summary="Show the report",
        response_class=Response,
        openapi_extra=_ASKED,
        responses=_ok("One self-contained page without scripts.", "text/html") | problems(*_PROBLEMS),
    )
    def report(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
        """What was found, with its pictures."""
        return send(request, service.artifact(parts, caller, kind.name, job_id, "report.html"), inline=True)

    @router.get(
        "/report.json",
        summary="Show the report as JSON",
        response_class=Response,
        openapi_extra=_ASKED,
        responses=_ok("The figures of the report.", "application/json") | problems(*_PROBLEMS),
    )
    def report_json(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
        """The same figures for programs."""
        return send(request, service.artifact(parts, caller, kind.name, job_id, "report.json"), inline=True)

    @router.get(
        "/manifest",
        summary="Show the manifest",
        response_class=Response,
        openapi_extra=_ASKED,
        responses=_ok("All that is needed to get the same numbers again.", "application/json") | problems(*_PROBLEMS),
    )
    def manifest(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
        """Seeds, versions, hashes of the inputs, the request."""
        return send(request, service.artifact(parts, caller, kind.name, job_id, "manifest.json"), inline=True)

    @router.get(
        "/artifacts/{name}",
        summary="Download a file of the job",
        response_class=Response,
        openapi_extra=_ASKED,
        responses=_ANY_FILE | problems(*_PROBLEMS),
    )
    def artifact(request: Request, parts: PartsDep, caller: ReaderDep, job_id: str, name: str) -> Response:
        """Any file that `result.artifacts` names: pictures, the report, the path."""
        return send(request, service.artifact(parts, caller, kind.name, job_id, name))

    return router
