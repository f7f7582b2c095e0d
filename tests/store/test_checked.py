"""Parts of stored files: only bytes that were stored, and small parts cost little."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.checked import PIECE_BYTES, CheckedFiles
from store.errors import StorageCorrupt, StorageMissing
from store.storage import LocalStorage
from tests.damage import flipped_bit

NAME = "jobs/1/1/repaired.safetensors"
BODY = random.Random(0).randbytes(5 * PIECE_BYTES + 1000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "storage")
    with storage.new_writer(NAME) as writer:
        writer.write(BODY)
        writer.commit()
    return storage


def part(files: CheckedFiles, start: int, end: int) -> bytes:
    return b"".join(files.open(NAME, SHA256).read(start, end))


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, len(BODY)), (0, 1), (len(BODY) - 1, len(BODY)), (PIECE_BYTES, 2 * PIECE_BYTES), (7, 3 * PIECE_BYTES + 7)],
)
def test_any_part_is_what_was_stored(storage: LocalStorage, start: int, end: int) -> None:
    assert part(CheckedFiles(storage), start, end) == BODY[start:end]


def test_an_empty_file_has_no_parts(storage: LocalStorage) -> None:
    with storage.new_writer("empty") as writer:
        empty = writer.commit()
    file = CheckedFiles(storage).open("empty", empty.sha256)
    assert (file.bytes, list(file.read(0, 0))) == (0, [])


def test_a_missing_file_is_named(storage: LocalStorage) -> None:
    with pytest.raises(StorageMissing, match="jobs/2"):
        CheckedFiles(storage).open("jobs/2", SHA256)


@pytest.mark.parametrize("known", [False, True], ids=["first read", "read before"])
@pytest.mark.parametrize("unseen", [False, True], ids=["", "same time"])
def test_a_damaged_file_is_not_opened(storage: LocalStorage, known: bool, unseen: bool) -> None:
    files = CheckedFiles(storage)
    if known:
        part(files, 0, 1)
    with (
        flipped_bit(storage.path(NAME), random.Random(1), unseen=unseen),
        pytest.raises(StorageCorrupt, match="stored was"),
    ):
        files.open(NAME, SHA256)
    assert part(files, 0, 9) == BODY[:9], "restored, it is given out again"


def test_what_rots_while_it_is_read_is_not_given_out(storage: LocalStorage) -> None:
    """The file's times are looked at when it is opened; the bytes are checked one by one as they leave."""
    reading = CheckedFiles(storage).open(NAME, SHA256).read(0, len(BODY))
    given = [next(reading)]
    with flipped_bit(storage.path(NAME), _Late()), pytest.raises(StorageCorrupt, match="has changed at byte"):
        given.extend(reading)
    assert b"".join(given) == BODY[: 5 * PIECE_BYTES]


class _Late(random.Random):
    """Always the last bit."""

    def randrange(self, stop: int) -> int:  # type: ignore[override]
        return stop - 1


def test_a_small_part_of_a_file_that_is_known_costs_a_small_read(storage: LocalStorage) -> None:
    files = CheckedFiles(storage)
    first = bytes_read()
    part(files, 0, 1)
    again = bytes_read()
    part(files, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 10)
    small = bytes_read() - again
    assert again - first >= len(BODY)
    assert PIECE_BYTES <= small < 2 * PIECE_BYTES


def test_many_first_readers_read_the_file_once(storage: LocalStorage) -> None:
    files, before = CheckedFiles(storage), bytes_read()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: files.open(NAME, SHA256).close(), range(8))) == [None] * 8
    assert len(BODY) <= bytes_read() - before < 2 * len(BODY)


def bytes_read() -> int:
    """By this process so far, from disk or memory."""
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["rchar"])
