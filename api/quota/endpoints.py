"""The route of the quota."""

from fastapi import APIRouter

from api.dependencies import PartsDep, ReaderDep
from api.openapi import problems
from api.quota import service
from api.quota.schemas import Quota

router = APIRouter(prefix="/quota", tags=["quota"])


@router.get("", summary="Show the quota", responses=problems())
def show(parts: PartsDep, caller: ReaderDep) -> Quota:
    """How much of everything that is limited your tenant uses, and how much it may."""
    return service.show(parts, caller)
