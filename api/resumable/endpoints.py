"""Routes of the resumable uploads."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from api.dependencies import IdempotencyKey, PartsDep, ReaderDep, WriterDep
from api.errors import ApiError
from api.files.endpoints import UPLOAD_PROBLEMS
from api.openapi import problems
from api.resumable import service
from api.resumable.schemas import CONTENT_TYPE, TUS_VERSION, ResumableUpload

_VERSION_PROBLEM = "tus-version-not-supported"


def say_version(request: Request) -> None:
    """Every answer here says which version of tus it speaks."""
    request.state.answer_headers["Tus-Resumable"] = TUS_VERSION


def require_version(
    tus_resumable: Annotated[
        str | None,
        Header(description=f"The protocol's version: {TUS_VERSION}.", json_schema_extra={"enum": [TUS_VERSION]}),
    ] = None,
) -> None:
    """Raises ApiError `tus-version-not-supported`."""
    if tus_resumable != TUS_VERSION:
        detail = f"`Tus-Resumable` is {tus_resumable!r}; this service speaks {TUS_VERSION}."
        raise ApiError(_VERSION_PROBLEM, detail, headers={"Tus-Version": TUS_VERSION})


SpeaksTus = Annotated[None, Depends(require_version)]  # asked for behind the caller: who has no key learns nothing else
router = APIRouter(prefix="/files/resumable", tags=["files"], dependencies=[Depends(say_version)])


@router.options(
    "",
    status_code=204,
    summary="Say what resumable uploads can do",
    responses=problems(),
)
def options(parts: PartsDep, caller: ReaderDep) -> Response:
    """Version, extensions and the most bytes an upload of any kind may have, in the headers that tus names."""
    return service.options(parts)


@router.post(
    "",
    status_code=201,
    response_model=ResumableUpload,
    summary="Begin a resumable upload",
    responses=problems(
        _VERSION_PROBLEM,
        "body-too-large",
        "too-many-uploads",
        "storage-quota-exceeded",
        "idempotency-key-in-use",
        "idempotency-key-reused",
    ),
)
def create(
    parts: PartsDep,
    caller: WriterDep,
    _: SpeaksTus,
    upload_length: Annotated[int, Header(ge=1, description="Bytes of the whole file.")],
    upload_metadata: Annotated[
        str,
        Header(max_length=4000, description="As tus has it: `kind` (model, clean or triggered) and `filename`."),
    ],
    key: IdempotencyKey = None,
) -> Response:
    """By the protocol tus 1.0 (core, creation, expiration, termination), for which there are clients in many languages.
    The bytes go to the `Location` by PATCH, in one request or in many. The whole length counts as stored from now on.
    An upload that gets no bytes for twelve hours (`Upload-Expires`) is given up."""
    answer = service.create(parts, caller, length=upload_length, metadata=upload_metadata, key=key)
    return answer.response()


@router.head(
    "/{upload_id}",
    response_class=Response,
    summary="Ask how far a resumable upload is",
    responses=problems(_VERSION_PROBLEM, "upload-not-found"),
)
def show(parts: PartsDep, caller: ReaderDep, _: SpeaksTus, upload_id: str) -> Response:
    """`Upload-Offset` is what has reached the disk for good, also after a crash of the service: send on from there.
    Once the upload has become a file, `Content-Location` names it."""
    return service.show(parts, caller, upload_id)


@router.patch(
    "/{upload_id}",
    status_code=204,
    summary="Send bytes of a resumable upload",
    responses=problems(
        _VERSION_PROBLEM,
        "upload-not-found",
        "upload-offset-differs",
        "upload-in-use",
        "upload-content-type",
        "storage-quota-exceeded",
        *(slug for slug in UPLOAD_PROBLEMS if not slug.startswith("idempotency")),
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def append(
    request: Request,
    parts: PartsDep,
    caller: WriterDep,
    _: SpeaksTus,
    upload_id: str,
    upload_offset: Annotated[int, Header(ge=0, description="Where these bytes begin: the offset that HEAD gives.")],
    content_type: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The request that brings the last byte is answered when the file has been read, as `POST /files` is: 204 with the
    file's address in `Content-Location`, or the problem with it. Who missed that answer sends an empty PATCH at the
    offset where the upload ends, and gets it again for twelve hours. Where the bytes could not be read for want of
    room (403, 507), the same PATCH tries once more. A connection that breaks loses nothing of what came."""
    return await service.append(request, parts, caller, upload_id, offset=upload_offset, content_type=content_type)


@router.delete(
    "/{upload_id}",
    status_code=204,
    summary="Give a resumable upload up",
    responses=problems(_VERSION_PROBLEM, "upload-not-found", "upload-in-use"),
)
def delete(parts: PartsDep, caller: WriterDep, _: SpeaksTus, upload_id: str) -> None:
    """Its bytes go at once, and stop counting as stored. A file that it has become stays."""
    service.delete(parts, caller, upload_id)
