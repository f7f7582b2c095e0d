"""Explains problem types."""

from api.errors import ApiError
from api.explain.schemas import Explanation, Explanations
from api.problems import CATALOGUE, type_uri


def explain(slug: str) -> Explanation:
    """The explanation of one type. Raises ApiError `problem-not-found`."""
    kind = CATALOGUE.get(slug)
    if kind is None:
        raise ApiError("problem-not-found", f"There is no problem type {slug!r}.")
    return Explanation(
        type=type_uri(slug), status=kind.status, title=kind.title, meaning=kind.meaning, remedy=kind.remedy
    )


def explain_all() -> Explanations:
    """Every type, in the order of their names."""
    return Explanations(items=[explain(slug) for slug in sorted(CATALOGUE)])
