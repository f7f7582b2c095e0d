"""Routes of the attestations."""

from typing import Any

from fastapi import APIRouter, Response

from api.attestation import service
from api.dependencies import PartsDep, ReaderDep
from api.jobs.kind import JobKind
from api.openapi import problems

ENVELOPE = "application/vnd.dsse.envelope.v1+json"
PEM = "application/x-pem-file"


def _ok(description: str, media_type: str, kind: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": description, "content": {media_type: {"schema": {"type": kind}}}}}


router = APIRouter(tags=["operation"])


@router.get(
    "/signing-key",
    summary="Show the key that checks attestations",
    response_class=Response,
    responses=_ok("The public key, as PEM.", PEM, "string") | problems("signing-key-missing", open_route=True),
)
def signing_key(parts: PartsDep) -> Response:
    """Public, and the same for everybody. Get it once, over a way that you trust, and keep it."""
    return Response(service.signing_of(parts).public_pem, media_type=PEM)


def attestation_routes(kind: JobKind) -> APIRouter:
    """The attestation of one kind of job."""
    router = APIRouter(prefix=f"/{kind.name}/{{job_id}}", tags=["results"])

    @router.get(
        "/attestation",
        summary="Download the signed attestation",
        response_class=Response,
        responses=_ok("A DSSE envelope.", ENVELOPE, "object")
        | problems("job-not-found", "job-not-finished", "job-has-no-result", "signing-key-missing"),
    )
    def attestation(parts: PartsDep, caller: ReaderDep, job_id: str) -> Response:
        """An in-toto statement (SLSA provenance) of the hashes of all inputs and results, signed anew each time."""
        return Response(
            service.attestation(parts, caller, kind.name, job_id),
            media_type=ENVELOPE,
            headers={"Content-Disposition": 'attachment; filename="attestation.json"', "Cache-Control": "no-store"},
        )

    return router
