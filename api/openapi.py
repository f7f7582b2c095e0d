"""How problems appear in the OpenAPI document."""

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.links import add_links
from api.problems import CATALOGUE, type_uri

_ALWAYS = (
    "key-missing",
    "key-not-valid",
    "key-scope-missing",
    "too-many-requests",
    "invalid-request",
    "database-unavailable",
    "internal-error",
)
JSON_BODY = ("invalid-json", "body-too-large", "body-too-slow")
"""What can be wrong with any JSON body."""
_OPEN = ("invalid-request", "internal-error")

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `type` is stable and can be opened; further members depend on it.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "additionalProperties": True,
}


def problems(*slugs: str, open_route: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these problems and those that every route can answer."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for slug in (*slugs, *(_OPEN if open_route else _ALWAYS)):
        by_status[CATALOGUE[slug].status].append(slug)
    return {status: _response(slugs) for status, slugs in sorted(by_status.items())}


def _response(slugs: list[str]) -> dict[str, Any]:
    examples = {
        slug: {
            "summary": CATALOGUE[slug].title,
            "value": {
                "type": type_uri(slug),
                "title": CATALOGUE[slug].title,
                "status": CATALOGUE[slug].status,
                "detail": CATALOGUE[slug].meaning,
            },
        }
        for slug in slugs
    }
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {
        "description": " · ".join(f"`{slug}`: {CATALOGUE[slug].title}" for slug in slugs),
        "content": {"application/problem+json": content},
    }


def install(app: FastAPI) -> None:
    """Give `app` an OpenAPI document with the Problem schema in place of FastAPI's own validation error."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = PROBLEM_SCHEMA
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            add_links(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
