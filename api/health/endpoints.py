"""Routes for the operator; they need no key."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.dependencies import PartsDep
from api.health import service
from api.health.schemas import Alive, Ready
from api.openapi import problems

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Is the process alive", responses=problems(open_route=True))
async def healthz() -> Alive:
    """200 as long as the process answers."""
    return Alive()


@router.get("/readyz", summary="Is the service ready", responses=problems("not-ready", open_route=True))
def readyz(parts: PartsDep) -> Ready:
    """200 when database, queue, storage and the architecture inspector answer; 503 says which one does not."""
    return service.ready(parts)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus text format.", "content": {"text/plain": {}}}},
)
def metrics(parts: PartsDep) -> Response:
    """Requests, durations, uploads, open streams. Without tenants, keys or ids."""
    return Response(generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)
