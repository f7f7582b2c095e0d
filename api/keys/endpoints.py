"""Routes of the keys."""

from fastapi import APIRouter, Response

from api.dependencies import IdempotencyKey, KeyKeeperDep, PartsDep
from api.keys import service
from api.keys.schemas import KeyRequest, Keys, NewKey, RotationRequest
from api.openapi import JSON_BODY, problems

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post(
    "",
    status_code=201,
    response_model=NewKey,
    summary="Make a key",
    responses=problems("key-exceeds-yours", "idempotency-key-in-use", "idempotency-key-reused", *JSON_BODY),
)
def create(parts: PartsDep, caller: KeyKeeperDep, body: KeyRequest, key: IdempotencyKey = None) -> Response:
    """For your own tenant, with no more scopes and no longer life than your key. `key` is shown once and cannot be had
    again."""
    return service.create(parts, caller, body, key).response()


@router.get("", summary="List keys", responses=problems())
def of_tenant(parts: PartsDep, caller: KeyKeeperDep) -> Keys:
    """Without their secrets; revoked and expired ones too."""
    return service.of_tenant(parts, caller)


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    response_model=NewKey,
    summary="Rotate a key",
    responses=problems(
        "key-not-found", "key-exceeds-yours", "idempotency-key-in-use", "idempotency-key-reused", *JSON_BODY
    ),
)
def rotate(
    parts: PartsDep, caller: KeyKeeperDep, key_id: str, body: RotationRequest, key: IdempotencyKey = None
) -> Response:
    """A new key with the label and scopes of this one, which expires after the overlap. A key that has ended is not
    found. `key` is shown once and cannot be had again."""
    return service.rotate(parts, caller, key_id, body, key).response()


@router.delete("/{key_id}", status_code=204, summary="Revoke a key", responses=problems("key-not-found"))
def revoke(parts: PartsDep, caller: KeyKeeperDep, key_id: str) -> None:
    """From now on the key is refused."""
    service.revoke(parts, caller, key_id)
