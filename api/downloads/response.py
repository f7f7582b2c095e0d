"""A stored file as an HTTP answer: ranges, ETag, digest, and headers that keep a browser from running it."""

import base64
import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.conditional import matches
from api.downloads.schemas import Download
from api.errors import ApiError

# Reports carry their style and pictures inside; nothing is fetched, run, framed or sent.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)


def send(request: Request, download: Download, *, inline: bool = False) -> Response:
    """The file, the part of it that `Range` asks for, or 304 where the client has it already.

    The ETag is the SHA-256 of the file; `Repr-Digest` (RFC 9530) says it in full, of the whole file also for a part.
    Raises StorageMissing, StorageCorrupt, ApiError `range-not-satisfiable`. A part that is found to be damaged only
    while it is sent ends the connection instead.
    """
    etag = f'"{download.sha256}"'
    digest = base64.b64encode(bytes.fromhex(download.sha256)).decode()
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    }
    if matches(request, etag):
        return Response(status_code=304, headers=headers)
    file = download.open()
    try:
        part = _part(request, etag, file.bytes)
    except ApiError:
        file.close()
        raise
    start, end = part or (0, file.bytes)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": _disposition(download.name, "inline" if inline else "attachment"),
    }
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    return StreamingResponse(
        file.read(start, end), status_code=206 if part else 200, media_type=download.media_type, headers=headers
    )


def _part(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """First byte and the byte after the last one that are asked for; None means the whole file (RFC 9110, 14.2).

    So it does where the file has changed for the client (`If-Range`), where the range is none, and for several ranges.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise ApiError(
            "range-not-satisfiable",
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
            bytes=size,
        )
    return start, end


def _disposition(name: str, kind: str) -> str:
    quoted = quote(name)
    return f'{kind}; filename="{name}"' if quoted == name else f"{kind}; filename*=utf-8''{quoted}"
