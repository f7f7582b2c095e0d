"""The one error tree of the client: what the service refused, what broke on the way, how a job ended."""

from collections.abc import Mapping
from typing import Any

import httpx


class ModeConnError(Exception):
    """Base of everything that the client raises on purpose."""


class Unreachable(ModeConnError):
    """The service did not answer, also after the retries."""


class DownloadBroken(ModeConnError):
    """A downloaded file is not the one that the service announced (length or SHA-256 differ)."""


class Problem(ModeConnError):
    """An answer in `application/problem+json` (RFC 9457).

    `type` is the stable slug (`unknown-architecture`), `title` and `detail` are for people, `extra` holds the others.
    """

    def __init__(self, body: Mapping[str, Any], status: int) -> None:
        members = dict(body)
        self.status = status
        self.type = str(members.pop("type", "about:blank")).rsplit("/", 1)[-1]
        self.title = str(members.pop("title", f"HTTP {status}"))
        self.detail = str(members.pop("detail", ""))
        members.pop("status", None)
        self.extra = members
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)


class Refused(Problem):
    """The request was understood and not accepted (4xx); the detail says what to change."""


class NotAuthorised(Problem):
    """The key is missing, unknown, expired or revoked (401, 403)."""


class NotFound(Problem):
    """No such thing under this key (404)."""


class TooManyRequests(Problem):
    """A rate limit or quota, also after the retries (429)."""


class ServerError(Problem):
    """The service failed (5xx), also after the retries."""


class JobFailed(Problem):
    """The job ended as `failed`; the members are those of the job's problem."""


class JobCancelled(ModeConnError):
    """The job ended as `cancelled`."""


def problem_from(response: httpx.Response) -> Problem:
    """The typed error for a non-2xx answer whose body has been read."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict) or "title" not in body:
        text = response.text.strip()[:300]
        body = {"title": f"{response.status_code} {response.reason_phrase}", "detail": text}
    kinds: dict[int, type[Problem]] = {401: NotAuthorised, 403: NotAuthorised, 404: NotFound, 429: TooManyRequests}
    fallback = ServerError if response.status_code >= 500 else Refused
    return kinds.get(response.status_code, fallback)(body, response.status_code)
