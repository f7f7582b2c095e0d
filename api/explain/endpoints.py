"""Routes of the problem pages: where the `type` of a problem leads to."""

from fastapi import APIRouter

from api.explain import service
from api.explain.schemas import Explanation, Explanations
from api.openapi import problems

router = APIRouter(prefix="/problems", tags=["problems"])


@router.get("", summary="List problem types", responses=problems(open_route=True))
def explain_all() -> Explanations:
    """Every way in which a request or a job can fail."""
    return service.explain_all()


@router.get("/{slug}", summary="Explain a problem type", responses=problems("problem-not-found", open_route=True))
def explain(slug: str) -> Explanation:
    """What it means and what to do."""
    return service.explain(slug)
