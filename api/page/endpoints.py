"""The web page: plain files, no build step, nothing from elsewhere. It speaks to the same routes as everybody."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
HEADERS = {
    # Nothing but what this service serves may run, load or be called; what a job made is shown as data.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",  # asked again each time, answered by 304: a new version is there at once
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> Response:
    """The page itself; what it shows lies behind `#`."""
    return FileResponse(STATIC / "index.html", headers=HEADERS)


class Static(StaticFiles):
    """The page's scripts and styles, with its headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


static = Static(directory=STATIC)
