"""Uploads that come in pieces: what has arrived so far, on the disk until it is taken in or a day has passed.

A folder each, among what is unfinished: `upload.json`, `data`, and `file` once it was taken in. Housekeeping removes
folders that nobody has written to for a day. No row names them: what counts is what is on the disk.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from store.errors import TooManyPartialUploads, UploadBusy
from store.storage import LocalStorage, fsync_folder

MOST_OF_A_TENANT: Final = 100
KEPT_SECONDS: Final = 86_400  # after the last byte
_DETAILS, _DATA, _FILE = "upload.json", "data", "file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """What was said when it began. `length` in bytes; `sha256` (lower-case hex) of the whole, where it was given."""

    kind: str
    name: str
    length: int
    sha256: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialUpload:
    """One upload of a tenant."""

    id: UUID
    folder: Path
    details: Details

    @property
    def data(self) -> Path:
        """The bytes so far. Empty again once they were taken in."""
        return self.folder / _DATA

    @property
    def file_id(self) -> UUID | None:
        """The file that it became; None before that."""
        try:
            return UUID((self.folder / _FILE).read_text())
        except FileNotFoundError:
            return None

    @property
    def offset(self) -> int:
        """How many bytes have arrived."""
        return self.details.length if self.file_id else self.data.stat().st_size

    @property
    def expires_at(self) -> float:
        """Unix time, if no more bytes come."""
        return self.data.stat().st_mtime + KEPT_SECONDS

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Only one may write or take in at a time, in any process. Raises UploadBusy; FileNotFoundError when gone."""
        with self.data.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy(self.id) from None
            yield

    def became(self, file_id: UUID) -> None:
        """It was taken in: remember as what, for whoever missed the answer, and forget the bytes."""
        partial = self.folder / f".{_FILE}"
        partial.write_text(str(file_id))
        partial.rename(self.folder / _FILE)
        fsync_folder(self.folder)
        os.truncate(self.data, 0)

    def remove(self) -> None:
        """Forget it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PartialUploads:
    """Those of all tenants; each sees its own."""

    def __init__(self, storage: LocalStorage) -> None:
        self._folder = storage.unfinished

    def create(self, tenant_id: UUID, details: Details) -> PartialUpload:
        """A new one without any bytes. Raises TooManyPartialUploads."""
        if len(self.of(tenant_id)) >= MOST_OF_A_TENANT:
            raise TooManyPartialUploads(MOST_OF_A_TENANT)
        upload = PartialUpload(id=(new := uuid4()), folder=self._folder_of(tenant_id, new), details=details)
        hidden = upload.folder.with_name(f".{upload.folder.name}")  # seen when it is whole
        hidden.mkdir(mode=0o700)
        (hidden / _DETAILS).write_text(json.dumps(asdict(details)))
        (hidden / _DATA).touch()
        hidden.rename(upload.folder)
        fsync_folder(self._folder)
        return upload

    def find(self, tenant_id: UUID, upload_id: UUID) -> PartialUpload | None:
        """The tenant's upload, if it is still there."""
        folder = self._folder_of(tenant_id, upload_id)
        with suppress(FileNotFoundError):
            details = Details(**json.loads((folder / _DETAILS).read_text()))
            return PartialUpload(id=upload_id, folder=folder, details=details)
        return None

    def of(self, tenant_id: UUID) -> list[PartialUpload]:
        """The tenant's uploads that were not taken in yet."""
        prefix = f"upload-{tenant_id}-"
        ids = [UUID(folder.name.removeprefix(prefix)) for folder in self._folder.glob(f"{prefix}*")]
        found = [self.find(tenant_id, upload_id) for upload_id in ids]
        return [upload for upload in found if upload is not None and upload.file_id is None]

    def _folder_of(self, tenant_id: UUID, upload_id: UUID) -> Path:
        return self._folder / f"upload-{tenant_id}-{upload_id}"
