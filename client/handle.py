"""A job of any kind in the user's hands: ask, follow, cancel, download its files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

from client.download import download
from client.errors import JobCancelled, JobFailed
from client.events import follow
from client.models import AnyJob, Event
from client.transport import Transport

AJob = TypeVar("AJob", bound=AnyJob)


class Handle(Generic[AJob]):
    """One job: `job` is what the service said last."""

    route: ClassVar[str]  # under which the service has jobs of this kind
    kind: type[AJob]

    def __init__(self, transport: Transport, job: AJob) -> None:
        self.transport, self.job = transport, job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def _path(self) -> str:
        return f"{self.route}/{self.job.id}"

    def refresh(self) -> AJob:
        """Asks the service again."""
        self.job = self.kind.model_validate(self.transport.request("GET", self._path).json())
        return self.job

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """Its events from the start (or after an event's id), as they happen, up to the terminal one."""
        return follow(self.transport, f"{self._path}/events", after=after)

    def wait(self, on_event: Callable[[Event], None] | None = None) -> AJob:
        """Follows the job to its end. Raises `JobFailed` with the job's problem, or `JobCancelled`."""
        for event in self.events():
            if on_event:
                on_event(event)
        return self.outcome()

    def outcome(self) -> AJob:
        """The job as it ended. Raises `JobFailed` with its problem, or `JobCancelled`."""
        job = self.refresh()
        if job.state == "failed":
            raise JobFailed(job.problem or {"title": "The job failed"}, 200)
        if job.state == "cancelled":
            raise JobCancelled(f"Job {job.id} was cancelled.")
        return job

    def download_artifact(self, name: str, target: Path) -> Path:
        """A file that the job made (`report.html`, `manifest.json`, ...), checked against the result's SHA-256."""
        return self._download(f"{self._path}/artifacts/{name}", name, target)

    def download_attestation(self, target: Path) -> Path:
        """The signed statement of the hashes of all inputs and results; `modeconn verify` checks it."""
        return download(self.transport, f"{self._path}/attestation", target)

    def _download(self, path: str, name: str, target: Path, on_bytes: Callable[[int], None] | None = None) -> Path:
        result = self.job.result or self.refresh().result
        artifact = result.artifact(name) if result else None
        return download(self.transport, path, target, sha256=artifact.sha256 if artifact else None, on_bytes=on_bytes)

    def cancel(self) -> AJob:
        """Asks for the end; a running job stops at its next step."""
        self.job = self.kind.model_validate(self.transport.request("POST", f"{self._path}/cancel").json())
        return self.job

    def retry(self) -> Self:
        """A new job with the same request."""
        answer = self.transport.request("POST", f"{self._path}/retry")
        return type(self)(self.transport, self.kind.model_validate(answer.json()))
