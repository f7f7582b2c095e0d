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
from client.models import (
    ApiKey,
    Architecture,
    Criteria,
    CurvePoint,
    Event,
    Job,
    Method,
    Preflight,
    Preprocessing,
    RepairSettings,
    StoredFile,
)
from client.repair import Repair
from client.sdk import Client

__all__ = [
    "ApiKey",
    "Architecture",
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
    "Preflight",
    "Preprocessing",
    "Problem",
    "Refused",
    "Repair",
    "RepairSettings",
    "ServerError",
    "StoredFile",
    "TooManyRequests",
    "Unreachable",
]
