"""Begins uploads in pieces, takes the pieces, and makes a file of what is whole."""

import binascii
import hashlib
import re
from base64 import b64decode
from email.utils import formatdate
from typing import get_args

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.dependencies import Caller, Parts, missing, parse_id
from api.errors import ApiError
from api.files.receive import Received, append
from api.files.schemas import FileKind
from api.files.service import limit_bytes, require_room, room_or_507, take_in
from api.idempotency import Answer, Post, once
from intake.launcher import IntakeRefused
from store.partial_uploads import Details, PartialUpload, PartialUploads

Headers = dict[str, str]
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def create(parts: Parts, caller: Caller, *, length: int, metadata: str, key: str | None) -> Answer:
    """Begin one, with room for all of it. Raises ApiError, store.errors.StorageQuotaExceeded, TooManyPartialUploads."""
    details = _details(length, metadata)
    kind: FileKind = details.kind  # type: ignore[assignment]  # checked
    if length > (limit := limit_bytes(parts.settings, kind)):
        raise ApiError("body-too-large", f"Here {limit} bytes are accepted at most.", limit_bytes=limit)
    uploads = PartialUploads(parts.storage)
    post = Post(caller.tenant_id, key, "POST /files/resumable", {"length": length, "metadata": metadata})

    def work(session: Session) -> Answer:
        reserved = sum(upload.details.length for upload in uploads.of(caller.tenant_id))
        require_room(parts, caller.tenant_id, reserved + length)
        upload = uploads.create(caller.tenant_id, details)
        return Answer(201, None, {"Location": f"/files/resumable/{upload.id}", **_expiry(upload)})

    with room_or_507():
        return once(parts.factory, post, work)


def state(parts: Parts, caller: Caller, upload_id: str) -> Headers:
    """How much has arrived, and as what it was taken in. Raises ApiError `upload-not-found`."""
    upload = _find(parts, caller, upload_id)
    return {**_progress(upload), "Upload-Length": str(upload.details.length)}


async def append_to(request: Request, parts: Parts, caller: Caller, upload_id: str, *, offset: int) -> Headers:
    """Take the bytes of a request; with the last ones, make the file.

    Raises ApiError, store.errors.UploadBusy, intake's IntakeRefused (the upload is over then).
    """
    upload = _find(parts, caller, upload_id)
    with room_or_507(), upload.writing():
        if offset != upload.offset:
            detail = f"{upload.offset} bytes have arrived; `Upload-Offset` is {offset}."
            raise ApiError("upload-offset-differs", detail, offset=upload.offset)
        if upload.file_id is None:
            await append(request, upload.data, upload.details.length - offset)
            if upload.offset == upload.details.length:
                await _take_in(parts, caller, upload)
    return _progress(upload)


async def _take_in(parts: Parts, caller: Caller, upload: PartialUpload) -> None:
    details = upload.details
    try:
        received = await run_in_threadpool(_received, upload)
        if details.sha256 not in (None, received.sha256):
            upload.remove()
            raise ApiError("upload-digest-differs", f"The SHA-256 of what arrived is {received.sha256}.")
        post = Post(caller.tenant_id, None, "PATCH /files/resumable")
        kind: FileKind = details.kind  # type: ignore[assignment]  # checked when it began
        with parts.storage.scratch() as folder:
            answer = await take_in(parts, post, received, folder, kind=kind, name=details.name)
    except IntakeRefused:
        upload.remove()  # more bytes would not mend it; whatever else goes wrong may go well with the next PATCH
        raise
    assert answer.body is not None
    upload.became(parse_id(answer.body["id"], "file-not-found", "file"))


def _received(upload: PartialUpload) -> Received:
    with upload.data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Received(upload.data, upload.details.length, digest)


def remove(parts: Parts, caller: Caller, upload_id: str) -> None:
    """Forget one. Raises ApiError `upload-not-found`, store.errors.UploadBusy."""
    upload = _find(parts, caller, upload_id)
    with upload.writing():
        upload.remove()


def _find(parts: Parts, caller: Caller, upload_id: str) -> PartialUpload:
    parsed = parse_id(upload_id, "upload-not-found", "upload")
    upload = PartialUploads(parts.storage).find(caller.tenant_id, parsed)
    if upload is None:
        raise missing("upload-not-found", "upload", upload_id)
    return upload


def _progress(upload: PartialUpload) -> Headers:
    file_id = upload.file_id
    became = {} if file_id is None else {"ModeConn-File": str(file_id)}
    return {"Upload-Offset": str(upload.offset), **_expiry(upload), **became}


def _expiry(upload: PartialUpload) -> Headers:
    return {"Upload-Expires": formatdate(upload.expires_at, usegmt=True)}


def _details(length: int, metadata: str) -> Details:
    """Raises ApiError `invalid-request`."""
    try:
        pairs = [pair.strip().partition(" ")[::2] for pair in metadata.split(",")]
        given = {name: b64decode(value, validate=True).decode() for name, value in pairs}
    except (binascii.Error, UnicodeDecodeError):
        raise _unfit("its values must be UTF-8 in base64") from None
    kind, sha256 = given.get("kind", ""), given.get("sha256")
    name = given.get("filename", kind)
    if kind not in get_args(FileKind):
        raise _unfit(f"`kind` must be one of {', '.join(get_args(FileKind))}")
    if not _NAME.fullmatch(name):
        raise _unfit("`filename` must have 1 to 200 characters, none of them a control character")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise _unfit("`sha256` must be 64 lower-case hex digits")
    return Details(kind=kind, name=name, length=length, sha256=sha256)


def _unfit(why: str) -> ApiError:
    place = {"in": "header", "pointer": "#/Upload-Metadata", "detail": why}
    return ApiError("invalid-request", f"Upload-Metadata: {why}.", errors=[place])
