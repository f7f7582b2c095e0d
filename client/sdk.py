"""The typed client: upload, start a repair, follow it, download what it made.

client = Client("http://127.0.0.1:8000", key)
how = Preprocessing(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
repair = client.repair(Path("suspect.safetensors"), Path("clean.zip"), RepairSettings(preprocessing=how))
repair.wait()
repair.download(Path("repaired.safetensors"))
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import httpx

from client.analysis import Analysis
from client.archive import zip_folder
from client.diagnosis import Diagnosis
from client.errors import NotFound
from client.models import (
    AnalysisJob,
    AnalysisSettings,
    ApiKey,
    DiagnosisJob,
    Job,
    JobSettings,
    Preflight,
    Quota,
    RepairSettings,
    StoredFile,
)
from client.repair import Repair
from client.resumable import CHUNK, ResumableUpload
from client.transport import TIMEOUT, Transport

Kind = Literal["model", "clean", "triggered"]
Input = Path | StoredFile | str
RESUMABLE_BYTES = 64 << 20


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
        """Streams a file, or a folder of class folders as a zip. `on_bytes` receives the bytes sent so far.

        Files above `RESUMABLE_BYTES` survive a broken connection or a restart of the service: only what is missing is
        sent again. Bytes that the service has already, as the same kind, come back as the file that they are.
        """
        if path.is_dir():
            with zip_folder(path) as archive:
                return self._upload(archive, path.name + ".zip", kind, on_bytes)
        with path.open("rb") as file:
            return self._upload(file, path.name, kind, on_bytes)

    def _upload(self, file: BinaryIO, name: str, kind: Kind, on_bytes: Callable[[int], None] | None) -> StoredFile:
        length = file.seek(0, 2)
        if length > RESUMABLE_BYTES:
            upload = ResumableUpload(self.transport, file, name=name, kind=kind, on_bytes=on_bytes)
            return StoredFile.model_validate(upload.send())

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

    def files(self, *, kind: Kind | None = None, limit: int | None = None) -> Iterator[StoredFile]:
        """This key's files, newest first, all pages (or the first `limit`)."""
        return map(StoredFile.model_validate, self._listed("/files", limit, kind=kind))

    def delete_file(self, file_id: str) -> None:
        """Removes an uploaded file that no unfinished job needs."""
        self.transport.request("DELETE", f"/files/{file_id}")

    # jobs

    def repair(
        self,
        suspect: Input,
        clean: Input,
        settings: RepairSettings,
        *,
        triggered: Input | None = None,
        second_model: Input | None = None,
        idempotency_key: str | None = None,
    ) -> Repair:
        """Starts a repair. A `Path` is uploaded first (a folder is zipped); a `str` is the id of an uploaded file."""
        body = self._repair_body(suspect, clean, triggered, second_model, settings)
        return Repair(self.transport, Job.model_validate(self._post("/repair", body, idempotency_key)))

    def preflight(
        self,
        suspect: Input,
        clean: Input,
        settings: RepairSettings,
        *,
        triggered: Input | None = None,
        second_model: Input | None = None,
    ) -> Preflight:
        """Checks all that `repair` would check and estimates how long it takes, but starts nothing."""
        body = self._repair_body(suspect, clean, triggered, second_model, settings) | {"validate_only": True}
        return Preflight.model_validate(self._post("/repair", body))

    def analyse(
        self,
        regular: Input,
        robust: Input,
        clean: Input,
        settings: AnalysisSettings,
        *,
        idempotency_key: str | None = None,
    ) -> Analysis:
        """Starts an analysis of the paths between two models; see `repair` for what a file may be."""
        body = self._analysis_body(regular, robust, clean, settings)
        return Analysis(self.transport, AnalysisJob.model_validate(self._post("/analysis", body, idempotency_key)))

    def preflight_analysis(self, regular: Input, robust: Input, clean: Input, settings: AnalysisSettings) -> Preflight:
        """Checks all that `analyse` would check and estimates how long it takes, but starts nothing."""
        body = self._analysis_body(regular, robust, clean, settings) | {"validate_only": True}
        return Preflight.model_validate(self._post("/analysis", body))

    def diagnose(
        self, suspect: Input, clean: Input, settings: JobSettings, *, idempotency_key: str | None = None
    ) -> Diagnosis:
        """Starts a measurement of a model on clean images, which takes seconds; see `repair` for what a file may be.

        Where the model does badly, its result suggests what it should be fed.
        """
        body = {"suspect": self._file_id(suspect, "model"), "clean": self._file_id(clean, "clean")}
        answer = self._post("/diagnosis", body | settings.model_dump(mode="json"), idempotency_key)
        return Diagnosis(self.transport, DiagnosisJob.model_validate(answer))

    def _post(self, route: str, body: dict[str, Any], idempotency_key: str | None = None) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        return self.transport.request("POST", route, json=body, headers=headers).json()

    def _repair_body(
        self,
        suspect: Input,
        clean: Input,
        triggered: Input | None,
        second_model: Input | None,
        settings: RepairSettings,
    ) -> dict[str, Any]:
        return {
            "suspect": self._file_id(suspect, "model"),
            "clean": self._file_id(clean, "clean"),
            "triggered": None if triggered is None else self._file_id(triggered, "triggered"),
            "second_model": None if second_model is None else self._file_id(second_model, "model"),
            **settings.model_dump(mode="json"),
        }

    def _analysis_body(self, regular: Input, robust: Input, clean: Input, settings: AnalysisSettings) -> dict[str, Any]:
        return {
            "regular": self._file_id(regular, "model"),
            "robust": self._file_id(robust, "model"),
            "clean": self._file_id(clean, "clean"),
            **settings.model_dump(mode="json"),
        }

    def _file_id(self, file: Input, kind: Kind) -> str:
        if isinstance(file, Path):
            return self.upload(file, kind).id
        return file.id if isinstance(file, StoredFile) else file

    def job(self, job_id: str) -> Repair:
        """A repair by its id."""
        return Repair(self.transport, Job.model_validate(self.transport.request("GET", f"/repair/{job_id}").json()))

    def analysis(self, job_id: str) -> Analysis:
        """An analysis by its id."""
        answer = self.transport.request("GET", f"/analysis/{job_id}").json()
        return Analysis(self.transport, AnalysisJob.model_validate(answer))

    def diagnosis(self, job_id: str) -> Diagnosis:
        """A diagnosis by its id."""
        answer = self.transport.request("GET", f"/diagnosis/{job_id}").json()
        return Diagnosis(self.transport, DiagnosisJob.model_validate(answer))

    def find(self, job_id: str) -> Repair | Analysis | Diagnosis:
        """A job of any kind by its id."""
        for of_kind in (self.job, self.analysis):
            with suppress(NotFound):
                return of_kind(job_id)
        return self.diagnosis(job_id)

    def jobs(
        self, *, state: str | None = None, label: tuple[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """This key's repairs, newest first, all pages (or the first `limit`); `label` is a name and its value."""
        return map(Job.model_validate, self._listed("/repair", limit, state=state, label=_stated(label)))

    def analyses(
        self, *, state: str | None = None, label: tuple[str, str] | None = None, limit: int | None = None
    ) -> Iterator[AnalysisJob]:
        """This key's analyses, as `jobs` lists repairs."""
        return map(AnalysisJob.model_validate, self._listed("/analysis", limit, state=state, label=_stated(label)))

    def diagnoses(
        self, *, state: str | None = None, label: tuple[str, str] | None = None, limit: int | None = None
    ) -> Iterator[DiagnosisJob]:
        """This key's diagnoses, as `jobs` lists repairs."""
        return map(DiagnosisJob.model_validate, self._listed("/diagnosis", limit, state=state, label=_stated(label)))

    def _listed(self, route: str, limit: int | None, **wanted: str | None) -> Iterator[Any]:
        cursor, left = None, limit
        while left is None or left > 0:
            asked = {**wanted, "limit": min(left or 100, 100), "cursor": cursor}
            params = {name: value for name, value in asked.items() if value is not None}
            page = self.transport.request("GET", route, params=params).json()
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    # keys

    def signing_key(self) -> str:
        """The public key, as PEM, that checks this service's attestations. Keep it: who has it needs no service."""
        return self.transport.request("GET", "/signing-key").text

    def keys(self) -> list[ApiKey]:
        """The keys of this key's own tenant."""
        return [ApiKey.model_validate(row) for row in self.transport.request("GET", "/keys").json()["items"]]

    def create_key(
        self, label: str, *, scopes: Collection[str] | None = None, expires_at: datetime | None = None
    ) -> ApiKey:
        """A new key; its `key` member is shown this once. None: the scopes and the end of this client's own key."""
        body = {
            "label": label,
            "scopes": None if scopes is None else sorted(scopes),
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        return ApiKey.model_validate(self._post("/keys", body))

    def rotate_key(self, key_id: str, *, overlap: timedelta = timedelta(days=1)) -> ApiKey:
        """A new key in place of another, which works for `overlap` from now; `key` is shown this once."""
        body = {"overlap_seconds": round(overlap.total_seconds())}
        return ApiKey.model_validate(self._post(f"/keys/{key_id}/rotate", body))

    def revoke_key(self, key_id: str) -> None:
        """Ends a key at once."""
        self.transport.request("DELETE", f"/keys/{key_id}")

    def quota(self) -> Quota:
        """What this key's tenant uses of what it may."""
        return Quota.model_validate(self.transport.request("GET", "/quota").json())


def _stated(label: tuple[str, str] | None) -> str | None:
    return ":".join(label) if label else None
