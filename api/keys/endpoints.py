"""Routes of the keys."""

from fastapi import APIRouter, Response

from api.dependencies import CallerDep, IdempotencyKey, PartsDep
from api.keys import service
from api.keys.schemas import KeyRequest, Keys, NewKey
from api.openapi import problems

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post(
    "",
    status_code=201,
    response_model=NewKey,
    summary="Make a key",
    responses=problems("idempotency-key-in-use", "idempotency-key-reused"),
)
def create(parts: PartsDep, caller: CallerDep, body: KeyRequest, key: IdempotencyKey = None) -> Response:
    """For the caller's own tenant. `key` is shown once and cannot be had again."""
    return service.create(parts, caller, body, key).response()


@router.get("", summary="List keys", responses=problems())
def of_tenant(parts: PartsDep, caller: CallerDep) -> Keys:
    """Without their secrets; revoked and expired ones too."""
    return service.of_tenant(parts, caller)


@router.delete("/{key_id}", status_code=204, summary="Revoke a key", responses=problems("key-not-found"))
def revoke(parts: PartsDep, caller: CallerDep, key_id: str) -> None:
    """From now on the key is refused."""
    service.revoke(parts, caller, key_id)
