"""The one place where errors become application/problem+json answers."""

import logging
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from api.errors import ApiError, problem_body
from api.logs import log
from api.problems import CATALOGUE
from intake.launcher import IntakeRefused
from store import errors
from store.database import DATABASE_AWAY

RETRY_AFTER_SECONDS = 2
COMPUTE_RETRY_AFTER_SECONDS = 600  # what was computed a day ago stops counting bit by bit
_SLUG_OF_STATUS = {400: "invalid-json", 404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}


class ProblemResponse(JSONResponse):
    """A JSON answer of the type that RFC 9457 names."""

    media_type = "application/problem+json"


def refusal(body: dict[str, Any], headers: dict[str, str] | None = None) -> ProblemResponse:
    """The answer for a problem body; its `status` member is the HTTP status."""
    return ProblemResponse(body, status_code=body["status"], headers=headers)


def internal_error(request_id: str) -> ProblemResponse:
    """The answer to what nobody expected: no word about the inside, only the id to ask with."""
    detail = "The request could not be carried out. The service's log has the cause under this request id."
    return refusal(ApiError("internal-error", detail, request_id=request_id).body())


def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return refusal(error.body(), dict(error.headers or {}))


def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    slug = _SLUG_OF_STATUS.get(error.status_code)
    if slug is None:
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        return refusal(body, headers)
    detail = f"{request.method} {request.url.path}: {CATALOGUE[slug].meaning}"
    return refusal(problem_body(slug, CATALOGUE[slug].title, error.status_code, detail), headers)


def _pointer(path: list[Any]) -> str:
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's 422 without the input: a body may hold what must not come back or be logged."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        item = found[0]
        cause = item.get("ctx", {}).get("error", item["msg"])
        return refusal(ApiError("invalid-json", f"Position {item['loc'][-1]}: {cause}.").body())
    places = [
        {"in": str(item["loc"][0]), "pointer": _pointer(list(item["loc"][1:])), "detail": item["msg"]} for item in found
    ]
    first = places[0]
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    detail = f"{first['in']} {first['pointer']}: {first['detail']}{more}."
    return refusal(ApiError("invalid-request", detail, errors=places).body())


def _database_down(request: Request, error: Exception) -> Response:
    detail = "The database did not answer; nothing was changed."
    return refusal(ApiError("database-unavailable", detail).body(), {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _intake_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, IntakeRefused)
    return refusal(problem_body(error.problem_type, error.title, error.status, error.detail, **error.extra))


def _store_error(request: Request, error: Exception) -> Response:
    """Refusals of the store that no service has turned into a closer one."""
    match error:
        case errors.QueueFull(limit=limit):
            detail = f"{limit} of yours are queued, which is the limit."
            found = ApiError("too-many-queued-jobs", detail, headers={"Retry-After": "30"}, limit=limit)
        case errors.StorageQuotaExceeded(limit=limit, stored=stored):
            detail = f"{stored} of your {limit} bytes are taken; the file is not kept."
            found = ApiError("storage-quota-exceeded", detail, limit_bytes=limit, stored_bytes=stored)
        case errors.ComputeUsedUp(limit=limit):
            detail = f"Your jobs have computed for {limit} seconds or more in the last 24 hours, which is the limit."
            after = {"Retry-After": str(COMPUTE_RETRY_AFTER_SECONDS)}
            found = ApiError("compute-quota-exceeded", detail, headers=after, limit_seconds=limit)
        case errors.TooManyUploads(limit=limit):
            detail = f"{limit} of yours are open, which is the limit."
            found = ApiError("too-many-uploads", detail, headers={"Retry-After": "60"}, limit=limit)
        case errors.PartialBusy():
            after = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            found = ApiError("upload-in-use", "Another request is sending bytes of this upload.", headers=after)
        case errors.NoSuchFile(role=role, file_id=file_id):
            found = ApiError("file-not-found", f"The `{role}` file is gone.", id=str(file_id), pointer=f"#/{role}")
        case errors.FileInUse(job_id=job_id, kind=kind):
            found = ApiError("file-in-use", "A job that has not ended uses the file.", jobs=[f"/{kind}/{job_id}"])
        case errors.NotRetryable(state=state):
            found = ApiError("job-cannot-be-retried", f"The job's state is `{state}`.", state=state)
        case errors.BadCursor():
            found = ApiError("invalid-cursor", "The cursor was not made by this service.")
        case errors.StorageMissing():
            found = ApiError("artifact-gone", "The file is no longer in the storage.")
        case errors.StorageCorrupt():
            log("stored file damaged", level=logging.ERROR, found=str(error))
            found = ApiError("stored-file-damaged", "The stored file has changed since it was written.")
        case errors.IdempotencyConflict():
            detail = "The first request with this Idempotency-Key is still being answered."
            found = ApiError("idempotency-key-in-use", detail, headers={"Retry-After": "1"})
        case errors.IdempotencyMismatch():
            found = ApiError("idempotency-key-reused", "This Idempotency-Key stands for another request.")
        case _:
            raise error
    return _api_error(request, found)


def _not_storable(request: Request, error: Exception) -> Response:
    """Postgres takes no NUL in texts, wherever in a request one may hide."""
    detail = "A value holds characters that no text may hold, such as NUL."
    return refusal(ApiError("invalid-request", detail, errors=[]).body())


def _client_left(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def install(app: FastAPI) -> None:
    """Register every mapping; unexpected exceptions are answered in the middleware, where the headers are added."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(IntakeRefused, _intake_refused)
    app.add_exception_handler(errors.StoreError, _store_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(DataError, _not_storable)
    for error in (*DATABASE_AWAY, PoolTimeout):
        app.add_exception_handler(error, _database_down)
