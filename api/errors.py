"""The API's own error: a problem of the catalogue with what is special about this case."""

from typing import Any

from starlette.exceptions import HTTPException

from api.problems import CATALOGUE, type_uri


class ApiError(HTTPException):
    """A refused request.

    It is an HTTPException so that FastAPI lets it through while it reads a body. `extra` are the RFC 9457 extension
    members; they must be JSON.
    """

    def __init__(self, slug: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(status_code=CATALOGUE[slug].status, detail=detail, headers=headers)
        self.slug = slug
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The problem as RFC 9457 wants it."""
        return problem_body(self.slug, CATALOGUE[self.slug].title, self.status_code, self.detail, **self.extra)


def problem_body(slug: str, title: str, status: int, detail: str, **extra: Any) -> dict[str, Any]:
    """A problem+json body: type, title, status, detail and the extension members."""
    return {"type": type_uri(slug), "title": title, "status": status, "detail": detail, **extra}
