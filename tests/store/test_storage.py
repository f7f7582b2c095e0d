"""Stored files: all or nothing, checked on reading, and never outside the storage."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from store.errors import StorageCorrupt, StorageMissing
from store.storage import LocalStorage
from tests.small_disk import fill, small_disk

BODY = b"weights" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = "jobs/1/1/repaired.safetensors"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


def write(storage: LocalStorage) -> None:
    with storage.new_writer(NAME) as writer:
        writer.write(BODY[:10])
        writer.write(BODY[10:])
        stored = writer.commit()
    assert (stored.name, stored.bytes, stored.sha256) == (NAME, len(BODY), SHA256)


def leftovers(storage: LocalStorage) -> list[str]:
    return os.listdir(storage.root / ".unfinished")


def test_a_committed_file_reads_back(storage):
    write(storage)
    assert storage.verify(NAME, SHA256).read_bytes() == BODY
    assert leftovers(storage) == []


def test_nothing_appears_before_commit_or_after_an_error(storage):
    with storage.new_writer(NAME) as writer:  # left without a commit, as by an error
        writer.write(BODY)
        assert (writer.bytes_written, writer.sha256) == (len(BODY), SHA256)
        assert not storage.path(NAME).exists()
    assert not storage.path(NAME).exists()
    assert leftovers(storage) == []


def test_a_changed_byte_is_noticed(storage):
    write(storage)
    with storage.path(NAME).open("r+b") as file:
        file.seek(100)
        file.write(b"!")
    with pytest.raises(StorageCorrupt, match=NAME):
        storage.verify(NAME, SHA256)


def test_a_missing_file_is_named(storage):
    with pytest.raises(StorageMissing, match=NAME):
        storage.verify(NAME, SHA256)


def test_a_file_made_in_scratch_is_adopted(storage):
    with storage.scratch() as folder:
        (folder / "x").write_bytes(BODY)
        stored = storage.adopt(folder / "x", NAME)
    assert (stored.bytes, stored.sha256) == (len(BODY), SHA256)
    assert storage.verify(NAME, SHA256).read_bytes() == BODY
    assert leftovers(storage) == []


def test_a_file_of_another_file_system_is_adopted(storage):
    source = Path("/dev/shm") / f"modeconn-{os.getpid()}"
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == storage.root.stat().st_dev:
        pytest.skip("no second file system here")
    source.write_bytes(BODY)
    assert storage.adopt(source, NAME).sha256 == SHA256
    assert storage.verify(NAME, SHA256).read_bytes() == BODY
    assert not source.exists()


def test_deleting_is_repeatable_and_takes_the_whole_tree(storage):
    write(storage)
    storage.delete(NAME)
    storage.delete(NAME)
    assert not storage.path(NAME).exists()
    write(storage)
    storage.delete_tree("jobs/1")
    storage.delete_tree("jobs/1")
    assert not storage.path("jobs/1").exists()
    assert storage.path("jobs").exists()


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "a\\b", "a\0b", ".unfinished/x"]
)
def test_names_that_leave_the_storage_are_refused(storage, name):
    for use in (storage.path, storage.new_writer, storage.delete, storage.delete_tree):
        with pytest.raises(ValueError, match="not a storage name"):
            use(name)


def test_what_a_crash_left_is_removed_and_what_is_being_written_is_not(storage):
    crashed = storage.new_writer(NAME)
    crashed.write(BODY)
    with storage.scratch() as folder:
        assert storage.remove_unfinished(older_than_seconds=3600, now=time.time()) == 0
        assert folder.exists()
    assert storage.remove_unfinished(older_than_seconds=3600, now=time.time() + 7200) == 1
    assert leftovers(storage) == []


def test_a_leftover_that_still_grows_is_not_removed(storage):
    """A large upload comes for longer than its folder's age says."""
    with storage.scratch() as folder:
        (folder / "upload").write_bytes(BODY)
        past = time.time() - 7200
        os.utime(folder, (past, past))
        assert storage.remove_unfinished(older_than_seconds=3600, now=time.time()) == 0
        os.utime(folder / "upload", (past, past))
        assert storage.remove_unfinished(older_than_seconds=3600, now=time.time()) == 1


def write_much(storage: LocalStorage) -> None:
    with storage.new_writer(NAME) as writer:
        for _ in range(10_000):
            writer.write(b"x" * 100)  # some of it still waits in the buffer when the room is gone


def test_a_writer_on_a_full_disk_leaves_nothing(tmp_path):
    with small_disk(tmp_path / "small", 1 << 20) as disk:
        storage = LocalStorage(disk)
        fill(disk, leave=8192)
        with pytest.raises(OSError, match="No space left"):
            write_much(storage)
        assert leftovers(storage) == []
        assert not storage.path(NAME).exists()
