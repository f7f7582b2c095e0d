"""Stored files: written once, durable before they are named, checked when they are read."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from store.errors import StorageCorrupt, StorageMissing

CHUNK_BYTES = 1024 * 1024
UNFINISHED = ".unfinished"  # what a crash leaves lies here, never among the stored files


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """What is known of a file once it is stored; `sha256` is lower-case hex."""

    name: str
    bytes: int
    sha256: str


def canonical_name(tenant_id: UUID, file_id: UUID, suffix: str) -> str:
    """Where the canonical form of an upload lies; `suffix` is ".safetensors" or ".npz"."""
    return f"{file_folder(tenant_id, file_id)}/canonical{suffix}"


def file_folder(tenant_id: UUID, file_id: UUID) -> str:
    """Everything of one upload."""
    return f"files/{tenant_id}/{file_id}"


def artifact_name(job_id: UUID, attempt: int, name: str) -> str:
    """Where one attempt at a job puts its artifact `name`."""
    return f"{job_folder(job_id)}/{attempt}/{name}"


def job_folder(job_id: UUID) -> str:
    """Everything of one job."""
    return f"jobs/{job_id}"


class LocalStorage:
    """Named files under one folder of a POSIX file system that the API and all workers share.

    With `room`, a storage folder, this object writes and publishes below it alone, and what is unfinished lies there
    too: a process can then be shut into it.
    """

    def __init__(self, root: Path, *, room: str | None = None) -> None:
        self.root = root.resolve()
        self._top = self.root if room is None else self.path(room)
        if room is not None and not self._top.exists():
            self._top.mkdir(parents=True)
            _fsync_up(self._top.parent, self.root)
        self.unfinished = self._top / UNFINISHED
        self.unfinished.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> Path:
        """Absolute path of `name`, whether it exists or not. Raises ValueError for a name that leaves the storage."""
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts) or parts[0] == UNFINISHED:
            raise ValueError(f"not a storage name: {name!r}")
        return self.root.joinpath(*parts)

    def new_writer(self, name: str) -> "Writer":
        """A writer whose bytes appear under `name` when it commits, and not at all otherwise."""
        return Writer(name=name, target=self.path(name), folder=self.unfinished, top=self._top)

    def adopt(self, source: Path, name: str) -> StoredFile:
        """Move a finished file (best one made in `scratch`, so that nothing is copied) to `name`, durably.

        Raises FileNotFoundError when `source` does not exist.
        """
        target = self.path(name)
        if source.stat().st_dev != self.root.stat().st_dev:
            with self.new_writer(name) as writer, source.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    writer.write(chunk)
                stored = writer.commit()
            source.unlink()
            return stored
        with source.open("rb") as file:
            size, sha256 = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        _publish(source, target, self._top)
        return StoredFile(name=name, bytes=size, sha256=sha256)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder in the storage's own file system, gone when the block ends."""
        with tempfile.TemporaryDirectory(dir=self.unfinished) as folder:
            yield Path(folder)

    def verify(self, name: str, sha256: str) -> Path:
        """Path of `name` after its bytes were read and found to be the ones stored.

        Raises StorageMissing, StorageCorrupt.
        """
        path = self.path(name)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise StorageMissing(f"{name} is not in the storage") from error
        if found != sha256:
            raise StorageCorrupt(f"{name} has SHA-256 {found}, stored was {sha256}")
        return path

    def delete(self, name: str) -> None:
        """Remove one file; one that is missing is fine."""
        self.path(name).unlink(missing_ok=True)

    def delete_tree(self, name: str, *, keep: str | None = None) -> None:
        """Remove everything under `name/`, but for the file `keep` there; nothing there is fine."""
        folder = self.path(name)
        try:
            if keep is None or not (folder / keep).exists():
                shutil.rmtree(folder)
                return
            for entry in folder.iterdir():
                if entry.name != keep:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except FileNotFoundError:
            return

    def folders(self) -> Iterator[str]:
        """The names of the folders of all uploads and jobs, one after the other."""
        for pattern in ("files/*/*", "jobs/*"):
            for folder in self.root.glob(pattern):
                yield folder.relative_to(self.root).as_posix()

    def files(self, folder: str, *, after: float, before: float) -> list[str]:
        """The names of all files under `folder` that appeared there, or changed last, between two Unix times."""
        names = []
        for where, _, inside in os.walk(self.path(folder)):
            for name in inside:
                path = Path(where, name)
                with suppress(FileNotFoundError):  # somebody else removes it just now
                    if after < path.stat().st_ctime < before:  # unlike mtime, a rename sets it
                        names.append(path.relative_to(self.root).as_posix())
        return names

    def delete_empty(self, folder: str, *, before: float) -> None:
        """Remove `folder` and those under it that are empty and were last changed before a Unix time."""
        for found, _, _ in os.walk(self.path(folder), topdown=False):
            with suppress(OSError):  # not empty, or gone
                if os.stat(found).st_mtime < before:
                    os.rmdir(found)

    def remove_unfinished(self, *, older_than_seconds: float, now: float) -> int:
        """Remove what nobody has written to for `older_than_seconds` before `now` (Unix time); says how many."""
        removed = 0
        for leftover in self.unfinished.iterdir():
            try:
                if now - _last_written(leftover) <= older_than_seconds:
                    continue
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            except FileNotFoundError:  # its writer ended meanwhile
                continue
            removed += 1
        return removed


class Writer:
    """Bytes on their way to a name: hashed and counted as they come. A context manager that aborts unless committed."""

    def __init__(self, *, name: str, target: Path, folder: Path, top: Path) -> None:
        self._name, self._target, self._top = name, target, top
        descriptor, partial = tempfile.mkstemp(dir=folder)
        self._file = os.fdopen(descriptor, "wb")
        self._partial = Path(partial)
        self._hash = hashlib.sha256()
        self._bytes = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far, lower-case hex."""
        return self._hash.hexdigest()

    @property
    def bytes_written(self) -> int:
        """Number of bytes so far."""
        return self._bytes

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def commit(self) -> StoredFile:
        """Make the bytes durable, then give them their name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        _publish(self._partial, self._target, self._top)
        return StoredFile(name=self._name, bytes=self._bytes, sha256=self.sha256)

    def abort(self) -> None:
        """Forget the bytes; after commit it does nothing."""
        with suppress(OSError):  # on a full disk closing fails too: it writes what is left
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _last_written(path: Path) -> float:
    """Of a file, or of a folder and all in it (a growing file does not touch its folder); Unix time."""
    return max(found.stat().st_mtime for found in (path, *path.rglob("*")))


def _publish(source: Path, target: Path, top: Path) -> None:
    """Rename `source` to `target` and make the new name, and the folders made for it, survive a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    _fsync_up(target.parent, top)


def _fsync_up(folder: Path, top: Path) -> None:
    for each in (folder, *folder.parents):
        fsync_folder(each)
        if each == top:
            break


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
