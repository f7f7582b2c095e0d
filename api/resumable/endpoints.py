"""Routes of uploads in pieces, as tus 1.0 has them (tus.io): core, creation, expiration and termination."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from api.dependencies import IdempotencyKey, PartsDep, WriterDep
from api.errors import ApiError
from api.files.endpoints import UPLOAD_PROBLEMS
from api.openapi import problems
from api.resumable import service

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,termination"
_PIECE = "application/offset+octet-stream"


def _speaks_tus(
    response: Response, version: Annotated[str | None, Header(alias="Tus-Resumable", max_length=20)] = None
) -> None:
    if version != VERSION:
        detail = f"`Tus-Resumable` is {version!r}."
        raise ApiError("tus-version-unknown", detail, headers={"Tus-Version": VERSION})
    response.headers["Tus-Resumable"] = VERSION


router = APIRouter(prefix="/files/resumable", tags=["files"])
_Spoken = Annotated[None, Depends(_speaks_tus)]  # behind the caller: who has no key learns nothing else


def _answers(*slugs: str) -> dict[int | str, dict[str, Any]]:
    return problems("tus-version-unknown", *slugs)


@router.options("", status_code=204, summary="What of tus is spoken", responses=problems())
def options(parts: PartsDep, caller: WriterDep) -> Response:
    """Version, extensions, and the most bytes of an upload."""
    largest = max(parts.settings.max_model_bytes, parts.settings.max_dataset_bytes)
    known = {"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": str(largest)}
    return Response(status_code=204, headers={"Tus-Resumable": VERSION, **known})


@router.post(
    "",
    status_code=201,
    summary="Begin an upload in pieces",
    response_class=Response,
    responses=_answers(
        "body-too-large",
        "storage-full",
        "storage-quota-exceeded",
        "too-many-partial-uploads",
        "idempotency-key-in-use",
        "idempotency-key-reused",
    ),
)
def create(
    parts: PartsDep,
    caller: WriterDep,
    spoken: _Spoken,
    length: Annotated[int, Header(alias="Upload-Length", ge=1, description="Bytes of the whole file.")],
    metadata: Annotated[
        str,
        Header(
            alias="Upload-Metadata",
            max_length=2000,
            description="Pairs of a name and a value in base64, with commas between: `kind` (model, clean, triggered), "
            "`filename` and, to have the whole checked, `sha256` (lower-case hex).",
        ),
    ],
    key: IdempotencyKey = None,
) -> Response:
    """Answers where to send the bytes (`Location`) and until when they are waited for (`Upload-Expires`)."""
    answer = service.create(parts, caller, length=length, metadata=metadata, key=key)
    return Response(status_code=201, headers={"Tus-Resumable": VERSION, **answer.headers})


@router.head(
    "/{upload_id}",
    summary="How much has arrived",
    response_class=Response,
    responses=_answers("upload-not-found"),
)
def head(parts: PartsDep, caller: WriterDep, spoken: _Spoken, upload_id: str) -> Response:
    """`Upload-Offset` of `Upload-Length` bytes; `ModeConn-File` once it is a file."""
    found = service.state(parts, caller, upload_id)
    return Response(headers={"Tus-Resumable": VERSION, **found})


@router.patch(
    "/{upload_id}",
    status_code=204,
    summary="Send bytes",
    response_class=Response,
    responses=_answers(
        "upload-not-found",
        "upload-offset-differs",
        "upload-busy",
        "upload-digest-differs",
        "patch-type-unknown",
        *UPLOAD_PROBLEMS,
    ),
    openapi_extra={
        "requestBody": {"required": True, "content": {_PIECE: {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def patch(
    request: Request,
    parts: PartsDep,
    caller: WriterDep,
    spoken: _Spoken,
    upload_id: str,
    offset: Annotated[int, Header(alias="Upload-Offset", ge=0, description="How many bytes came before.")],
) -> Response:
    """With the last byte the file is read and converted as by `POST /files`, and `ModeConn-File` is its id.

    What the intake refuses is answered as there, and the upload is over. After a lost connection ask with HEAD.
    """
    if request.headers.get("content-type") != _PIECE:
        raise ApiError("patch-type-unknown", f"`Content-Type` is {request.headers.get('content-type')!r}.")
    headers = await service.append_to(request, parts, caller, upload_id, offset=offset)
    return Response(status_code=204, headers={"Tus-Resumable": VERSION, **headers})


@router.delete(
    "/{upload_id}",
    status_code=204,
    summary="Give an upload up",
    response_class=Response,
    responses=_answers("upload-not-found", "upload-busy"),
)
def delete(parts: PartsDep, caller: WriterDep, spoken: _Spoken, upload_id: str) -> Response:
    """Removes what has arrived. The file that it may have become stays."""
    service.remove(parts, caller, upload_id)
    return Response(status_code=204, headers={"Tus-Resumable": VERSION})
