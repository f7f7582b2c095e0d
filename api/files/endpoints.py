"""Routes of the files."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import IdempotencyKey, PartsDep, ReaderDep, WriterDep
from api.files import service
from api.files.samples import samples as images_seen
from api.files.schemas import File, FileKind, FilePage, Samples
from api.jobs.schemas import Preprocessing
from api.openapi import problems

router = APIRouter(prefix="/files", tags=["files"])

_UPLOAD_DESCRIPTION = """Send the file itself as the raw body:
`curl --data-binary @model.safetensors -H "Authorization: Bearer $KEY" "$URL/files?kind=model&name=model.safetensors"`.

`model`: a safetensors file, or a .pt/.pth state dict. `clean` and `triggered`: a zip with one folder of images per
class, an .npz with `images` and `labels`, or Parquet. In a triggered set a folder is the class that the attacker
wants.

Bytes that you have uploaded before, as the same kind, are not kept twice: the answer is then 200 and the file of that
time, under its name of that time, with its `expires_at` put off. A body that stops, or that comes too slowly, is cut
off; for large files there is `POST /files/resumable`."""
_RAW_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_KNOWN: dict[int | str, dict[str, Any]] = {200: {"model": File, "description": "You have these bytes already."}}
UPLOAD_PROBLEMS = (
    "body-too-large",
    "body-too-slow",
    "storage-full",
    "storage-quota-exceeded",
    "stored-file-damaged",
    "file-empty",
    "model-format-not-accepted",
    "model-pickle-not-accepted",
    "model-file-broken",
    "model-tensor-not-finite",
    "dataset-format-not-accepted",
    "dataset-archive-broken",
    "dataset-empty",
    "dataset-one-class",
    "idempotency-key-in-use",
    "idempotency-key-reused",
)


@router.post(
    "",
    status_code=201,
    response_model=File,
    summary="Upload a model or a set of images",
    description=_UPLOAD_DESCRIPTION,
    responses=_KNOWN | problems(*UPLOAD_PROBLEMS),
    openapi_extra=_RAW_BODY,
)
async def upload(
    request: Request,
    parts: PartsDep,
    caller: WriterDep,
    kind: Annotated[FileKind, Query(description="What the file is.")],
    name: Annotated[
        str | None,
        Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="A name for people."),
    ] = None,
    key: IdempotencyKey = None,
) -> Response:
    answer = await service.upload(request, parts, caller, kind=kind, name=name, key=key)
    return answer.response()


@router.get("", summary="List files", responses=problems("invalid-cursor"))
def page(
    parts: PartsDep,
    caller: ReaderDep,
    kind: Annotated[FileKind | None, Query(description="Only files of this kind.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
) -> FilePage:
    """Newest first, each with the time until which it is kept."""
    return service.page(parts, caller, kind=kind, limit=limit, cursor=cursor)


@router.get("/{file_id}", summary="Show a file", responses=problems("file-not-found"))
def show(parts: PartsDep, caller: ReaderDep, file_id: str) -> File:
    """What was found in the upload, and until when it is kept."""
    return service.show(parts, caller, file_id)


@router.get(
    "/{file_id}/samples",
    summary="Show images as a model sees them",
    responses=problems("file-not-found", "wrong-file-kind", "preprocessing-does-not-fit", "stored-file-damaged"),
)
def samples(
    parts: PartsDep, caller: ReaderDep, file_id: str, preprocessing: Annotated[Preprocessing, Query()]
) -> Samples:
    """A wrong normalisation is seen at once: good images are grey in the mean, neither pale nor black."""
    return images_seen(parts, caller, file_id, preprocessing)


@router.delete(
    "/{file_id}", status_code=204, summary="Delete a file", responses=problems("file-not-found", "file-in-use")
)
def delete(parts: PartsDep, caller: WriterDep, file_id: str) -> None:
    """Removes the bytes at once. Refused while a job that has not ended uses the file."""
    service.delete(parts, caller, file_id)
