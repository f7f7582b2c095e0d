"""What people hold: the typed SDK (`Client`) and the `modeconn` command."""

from client.errors import (
    DownloadBroken,
    JobCancelled,
    JobFailed,
    ModeConnError,
    NotAuthorised,
    NotFound,
    Problem,
    Refused,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from client.models import ApiKey, Criteria, CurvePoint, Event, Job, Method, Preprocessing, StoredFile
from client.sdk import Client, Repair

__all__ = [
    "ApiKey",
    "Client",
    "Criteria",
    "CurvePoint",
    "DownloadBroken",
    "Event",
    "Job",
    "JobCancelled",
    "JobFailed",
    "Method",
    "ModeConnError",
    "NotAuthorised",
    "NotFound",
    "Preprocessing",
    "Problem",
    "Refused",
    "Repair",
    "ServerError",
    "StoredFile",
    "TooManyRequests",
    "Unreachable",
]
