"""Answers that can be asked for again cheaply: ETag and 304."""

import hashlib
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

IF_NONE_MATCH: dict[str, Any] = {
    "parameters": [
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "The `ETag` of an answer that you have: 304 while it still holds.",
        }
    ]
}
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "What `If-None-Match` names still holds."}}


def conditional(request: Request, body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """`body` as JSON with its ETag, or 304 where the client has it already."""
    content = body.model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    all_headers = {"ETag": etag, "Cache-Control": "private, no-cache", **(headers or {})}
    if matches(request, etag):
        return Response(status_code=304, headers=all_headers)
    return Response(content, media_type="application/json", headers=all_headers)


def matches(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names this ETag (compared weakly, as RFC 9110 says for GET)."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or etag in (item.strip().removeprefix("W/") for item in given.split(","))
