"""Giving out parts of stored files: no byte leaves that was not compared with what was stored.

The first read of a file in a process hashes all of it, compares that with its SHA-256 and remembers a digest for every
piece of 1 MiB. Later reads hash only the pieces that they touch, in the buffer that is given out: a small range of a
large file costs a small read, and bytes that rot without a trace in the file's times are still noticed. Where the file
itself says that it has changed (its inode, size or times), all of it is read again before a byte is given out.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from store.errors import StorageCorrupt, StorageMissing
from store.storage import LocalStorage

PIECE_BYTES = 1 << 20
_FILES_REMEMBERED = 256  # 32 bytes for each of their pieces

_State = tuple[int, int, int, int]  # inode, size, times


@dataclass(slots=True)
class _Known:
    """What is remembered of a file; the lock lets one of many readers hash it."""

    lock: Lock = field(default_factory=Lock)
    state: _State | None = None
    digests: list[bytes] = field(default_factory=list)


class CheckedFile:
    """An open stored file whose pieces are checked as they are read."""

    def __init__(self, name: str, file: BinaryIO, size: int, digests: list[bytes]) -> None:
        self.bytes = size
        self._name, self._file, self._digests = name, file, digests

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end` (which is not included) in parts of at most 1 MiB; closes the file.

        Raises StorageCorrupt instead of giving out a changed part.
        """
        with self._file:
            for number in range(start // PIECE_BYTES, -(-end // PIECE_BYTES)):
                offset = number * PIECE_BYTES
                self._file.seek(offset)
                piece = self._file.read(PIECE_BYTES)
                if hashlib.sha256(piece).digest() != self._digests[number]:
                    raise StorageCorrupt(f"{self._name} has changed at byte {offset} or within 1 MiB after it")
                yield piece[max(start - offset, 0) : end - offset]

    def close(self) -> None:
        """For a file that is not read after all."""
        self._file.close()


class CheckedFiles:
    """Opens stored files for reading in parts, and remembers what it has found in them. Safe in many threads."""

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = Lock()

    def open(self, name: str, sha256: str) -> CheckedFile:
        """The file, found to be the one stored. Raises StorageMissing, StorageCorrupt."""
        try:
            file = self._storage.path(name).open("rb")
        except FileNotFoundError as error:
            raise StorageMissing(f"{name} is not in the storage") from error
        try:
            known = self._remembered(name, sha256)
            with known.lock:
                state = _state(file)
                if known.state != state:
                    known.digests, known.state = _checked(name, file, sha256), state
                return CheckedFile(name, file, state[1], known.digests)
        except BaseException:
            file.close()
            raise

    def _remembered(self, name: str, sha256: str) -> _Known:
        with self._lock:
            known = self._known.setdefault((name, sha256), _Known())
            self._known.move_to_end((name, sha256))
            while len(self._known) > _FILES_REMEMBERED:
                self._known.popitem(last=False)
            return known


def _state(file: BinaryIO) -> _State:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _checked(name: str, file: BinaryIO, sha256: str) -> list[bytes]:
    """A digest for each piece. Raises StorageCorrupt when all pieces together are not what was stored."""
    whole, digests = hashlib.sha256(), []
    while piece := file.read(PIECE_BYTES):
        whole.update(piece)
        digests.append(hashlib.sha256(piece).digest())
    if whole.hexdigest() != sha256:
        raise StorageCorrupt(f"{name} has SHA-256 {whole.hexdigest()}, stored was {sha256}")
    return digests
