"""One repair: ask, follow, cancel, download."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from client.download import download
from client.errors import JobCancelled, JobFailed
from client.events import follow
from client.models import CurvePoint, Event, Job
from client.transport import Transport


class Repair:
    """One repair: `job` is what the service said last."""

    def __init__(self, transport: Transport, job: Job) -> None:
        self.transport, self.job = transport, job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def _path(self) -> str:
        return f"/repair/{self.job.id}"

    def refresh(self) -> Job:
        """Asks the service again."""
        self.job = Job.model_validate(self.transport.request("GET", self._path).json())
        return self.job

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """Its events from the start (or after an event's id), as they happen, up to the terminal one."""
        return follow(self.transport, f"{self._path}/events", after=after)

    def wait(self, on_event: Callable[[Event], None] | None = None) -> Job:
        """Follows the job to its end. Raises `JobFailed` with the job's problem, or `JobCancelled`."""
        for event in self.events():
            if on_event:
                on_event(event)
        job = self.refresh()
        if job.state == "failed":
            raise JobFailed(job.problem or {"title": "The job failed"}, 200)
        if job.state == "cancelled":
            raise JobCancelled(f"Job {job.id} was cancelled.")
        return job

    def curve(self) -> list[CurvePoint]:
        """The points evaluated so far, by t."""
        answer = self.transport.request("GET", f"{self._path}/curve").json()
        return [CurvePoint.model_validate(point) for point in answer["points"]]

    def download(self, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> Path:
        """The repaired weights, checked against the SHA-256 in the job's result."""
        result = self.job.result or self.refresh().result
        artifact = result.artifact("repaired.safetensors") if result else None
        sha256 = artifact.sha256 if artifact else None
        return download(self.transport, f"{self._path}/weights", target, sha256=sha256, on_bytes=on_bytes)

    def download_artifact(self, name: str, target: Path) -> Path:
        """Another file that the job made (`curve.png`, `report.html`, `manifest.json`, ...), checked the same way."""
        result = self.job.result or self.refresh().result
        artifact = result.artifact(name) if result else None
        path = f"{self._path}/artifacts/{name}"
        return download(self.transport, path, target, sha256=artifact.sha256 if artifact else None)

    def cancel(self) -> Job:
        """Asks for the end; a running job stops at its next step."""
        self.job = Job.model_validate(self.transport.request("POST", f"{self._path}/cancel").json())
        return self.job

    def retry(self) -> Self:
        """A new job with the same request."""
        answer = self.transport.request("POST", f"{self._path}/retry")
        return type(self)(self.transport, Job.model_validate(answer.json()))
