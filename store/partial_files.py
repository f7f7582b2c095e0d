"""The bytes of resumable uploads as far as they have come: one writer at a time, durable before they are counted."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from uuid import UUID

from store.errors import PartialBusy
from store.storage import LocalStorage, fsync_folder


def partial_path(storage: LocalStorage, tenant_id: UUID, upload_id: UUID) -> Path:
    """Where they lie. What is forgotten there goes with the other leftovers."""
    return storage.unfinished / f"{tenant_id}.{upload_id}"


@contextmanager
def held(path: Path) -> Iterator[FileIO]:
    """The file, open for appending and nobody else's until the block ends, also when this process is killed.

    Raises PartialBusy.
    """
    with path.open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PartialBusy(f"{path.name} is being written to") from error
        yield file


def append(file: FileIO, data: bytes) -> None:
    """All of `data`, or as much as the disk has room for: then raises OSError."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def durable_size(path: Path) -> int:
    """How many bytes would survive a power cut now; 0 where nothing has come yet."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    fsync_folder(path.parent)
    return size
