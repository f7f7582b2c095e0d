"""The typed client: upload, start a repair, follow it, download what it made.

client = Client("http://127.0.0.1:8000", key)
repair = client.repair(Path("suspect.safetensors"), Path("clean.zip"), preprocessing=Preprocessing(mean=..., std=...))
job = repair.wait()
repair.download(Path("repaired.safetensors"))
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import httpx

from client.archive import zip_folder
from client.download import download
from client.errors import JobCancelled, JobFailed
from client.events import follow
from client.models import ApiKey, Criteria, CurvePoint, Event, Job, Method, Preprocessing, StoredFile
from client.transport import TIMEOUT, Transport

Kind = Literal["model", "clean", "triggered"]
CHUNK = 1 << 20


class Client:
    """A connection to one service under one key. Use it as a context manager, or `close()` it.

    Every method raises `Problem` (or a more precise kind of it) for a refusal and `Unreachable` when nothing answers.
    """

    def __init__(self, base_url: str, key: str | None, *, attempts: int = 5, timeout: httpx.Timeout = TIMEOUT) -> None:
        self.transport = Transport(base_url, key, attempts=attempts, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self.transport.close()

    # files

    def upload(self, path: Path, kind: Kind, *, on_bytes: Callable[[int], None] | None = None) -> StoredFile:
        """Streams a file, or a folder of class folders as a zip. `on_bytes` receives the bytes sent so far."""
        if path.is_dir():
            with zip_folder(path) as archive:
                return self._upload(archive, path.name + ".zip", kind, on_bytes)
        with path.open("rb") as file:
            return self._upload(file, path.name, kind, on_bytes)

    def _upload(self, file: BinaryIO, name: str, kind: Kind, on_bytes: Callable[[int], None] | None) -> StoredFile:
        length = file.seek(0, 2)

        def body() -> Iterator[bytes]:
            file.seek(0)
            while chunk := file.read(CHUNK):
                yield chunk
                if on_bytes:
                    on_bytes(file.tell())

        headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        params = {"kind": kind, "name": name}
        return StoredFile.model_validate(
            self.transport.request("POST", "/files", params=params, content=body, headers=headers).json()
        )

    def delete_file(self, file_id: str) -> None:
        """Removes an uploaded file that no unfinished job needs."""
        self.transport.request("DELETE", f"/files/{file_id}")

    # repairs

    def repair(
        self,
        suspect: Path | StoredFile | str,
        clean: Path | StoredFile | str,
        *,
        preprocessing: Preprocessing,
        triggered: Path | StoredFile | str | None = None,
        second_model: Path | StoredFile | str | None = None,
        architecture: str | Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        select_with_triggered: bool = False,
        criteria: Criteria | None = None,
        method: Method | None = None,
        accept_low_accuracy: bool = False,
        labels: Mapping[str, str] | None = None,
        deadline_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> "Repair":
        """Starts a repair. A `Path` is uploaded first (a folder is zipped); a `str` is the id of an uploaded file."""
        body = {
            "suspect": self._file_id(suspect, "model"),
            "clean": self._file_id(clean, "clean"),
            "triggered": self._file_id(triggered, "triggered") if triggered is not None else None,
            "second_model": self._file_id(second_model, "model") if second_model is not None else None,
            "architecture": architecture
            if architecture is None or isinstance(architecture, str)
            else dict(architecture),
            "preprocessing": preprocessing.model_dump(mode="json"),
            "classes": list(classes) if classes is not None else None,
            "select_with_triggered": select_with_triggered,
            "criteria": (criteria or Criteria()).model_dump(mode="json"),
            "method": (method or Method()).model_dump(mode="json"),
            "accept_low_accuracy": accept_low_accuracy,
            "labels": dict(labels or {}),
            "deadline_seconds": deadline_seconds,
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        answer = self.transport.request("POST", "/repair", json=body, headers=headers)
        return Repair(self, Job.model_validate(answer.json()))

    def _file_id(self, file: Path | StoredFile | str, kind: Kind) -> str:
        if isinstance(file, Path):
            return self.upload(file, kind).id
        return file.id if isinstance(file, StoredFile) else file

    def job(self, job_id: str) -> "Repair":
        """A repair by its id."""
        return Repair(self, Job.model_validate(self.transport.request("GET", f"/repair/{job_id}").json()))

    def jobs(self, *, state: str | None = None, label: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """This key's repairs, newest first, all pages (or the first `limit`)."""
        cursor, left = None, limit
        while left is None or left > 0:
            asked = {"state": state, "label": label, "limit": min(left or 100, 100), "cursor": cursor}
            params = {name: value for name, value in asked.items() if value is not None}
            page = self.transport.request("GET", "/repair", params=params).json()
            for row in page["items"]:
                yield Job.model_validate(row)
            left = None if left is None else left - len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    # keys

    def keys(self) -> list[ApiKey]:
        """The keys of this key's own tenant."""
        return [ApiKey.model_validate(row) for row in self.transport.request("GET", "/keys").json()["items"]]

    def create_key(self, label: str) -> ApiKey:
        """A new key; its `key` member is shown this once."""
        return ApiKey.model_validate(self.transport.request("POST", "/keys", json={"label": label}).json())

    def revoke_key(self, key_id: str) -> None:
        """Ends a key at once."""
        self.transport.request("DELETE", f"/keys/{key_id}")


class Repair:
    """One repair: `job` is what the service said last."""

    def __init__(self, client: Client, job: Job) -> None:
        self.client, self.job = client, job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def _path(self) -> str:
        return f"/repair/{self.job.id}"

    def refresh(self) -> Job:
        """Asks the service again."""
        self.job = Job.model_validate(self.client.transport.request("GET", self._path).json())
        return self.job

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """Its events from the start (or after an event's id), as they happen, up to the terminal one."""
        return follow(self.client.transport, f"{self._path}/events", after=after)

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
        answer = self.client.transport.request("GET", f"{self._path}/curve").json()
        return [CurvePoint.model_validate(point) for point in answer["points"]]

    def download(self, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> Path:
        """The repaired weights, checked against the SHA-256 in the job's result."""
        result = self.job.result or self.refresh().result
        artifact = result.artifact("repaired.safetensors") if result else None
        sha256 = artifact.sha256 if artifact else None
        return download(self.client.transport, f"{self._path}/weights", target, sha256=sha256, on_bytes=on_bytes)

    def download_artifact(self, name: str, target: Path) -> Path:
        """Another file that the job made (`curve.png`, `report.html`, `manifest.json`, ...), checked the same way."""
        result = self.job.result or self.refresh().result
        artifact = result.artifact(name) if result else None
        path = f"{self._path}/artifacts/{name}"
        return download(self.client.transport, path, target, sha256=artifact.sha256 if artifact else None)

    def cancel(self) -> Job:
        """Asks for the end; a running job stops at its next step."""
        self.client.transport.request("POST", f"{self._path}/cancel")
        return self.refresh()

    def retry(self) -> "Repair":
        """A new job with the same request."""
        answer = self.client.transport.request("POST", f"{self._path}/retry")
        return Repair(self.client, Job.model_validate(answer.json()))
