"""A stored file as an HTTP answer: ranges, ETag, digest, and headers that keep a browser from running it."""

import base64

from starlette.requests import Request
from starlette.responses import FileResponse, MalformedRangeHeader, RangeNotSatisfiable, Response

from api.conditional import matches
from api.downloads.schemas import Download
from api.errors import ApiError

# Reports carry their style and pictures inside; nothing is fetched, run, framed or sent.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)


class DownloadResponse(FileResponse):
    """A FileResponse whose range errors follow RFC 9110 and our problems."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # a range that is none is ignored: the whole file is sent
        except RangeNotSatisfiable:
            raise ApiError(
                "range-not-satisfiable",
                f"The file has {file_size} bytes.",
                headers={"Content-Range": f"bytes */{file_size}"},
                bytes=file_size,
            ) from None


def send(request: Request, download: Download, *, inline: bool = False) -> Response:
    """The file, the part of it that `Range` asks for, or 304 where the client has it already.

    The ETag is the SHA-256 of the file; `Repr-Digest` (RFC 9530) says it in full, of the whole file also for a part.
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
    return DownloadResponse(
        download.path,
        media_type=download.media_type,
        headers=headers,
        filename=download.name,
        content_disposition_type="inline" if inline else "attachment",
    )
