"""A backup holds everything of one moment, comes back the same, and is refused when a byte of it is not as it was."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, make_url, update

from migrations import alembic_config
from store import backup
from store.backup_file import MANIFEST, read_manifest, seal
from store.database import make_engine
from store.errors import BackupRefused
from store.restore import restore
from store.storage import LocalStorage
from store.tables import Artifact, File
from tests.store.rows import MODEL, REPAIR, TENANT, contents, fill

UPLOAD, WEIGHTS = f"files/{TENANT}/{MODEL}/c.npz", f"jobs/{REPAIR}/3/w"
DIGEST_LINE = 65


def put(storage: LocalStorage, name: str, content: bytes) -> str:
    with storage.new_writer(name) as writer:
        writer.write(content)
        return writer.commit().sha256


@pytest.fixture
def filled(engine: Engine, storage: LocalStorage) -> Engine:
    """A database with rows in every table, and the stored files that they name."""
    fill(engine)
    upload, weights = put(storage, UPLOAD, b"upload" * 400_000), put(storage, WEIGHTS, b"weights")
    put(storage, f"jobs/{REPAIR}/2/checkpoint", b"no row names this")
    with engine.begin() as connection:
        connection.execute(update(File).values(canonical_sha256=upload))
        connection.execute(update(Artifact).values(sha256=weights))
    return engine


@pytest.fixture
def saved(filled: Engine, database_url: str, storage: LocalStorage, tmp_path: Path) -> Path:
    out = tmp_path / "backup"
    backup.save(database_url, storage, out)
    return out


@pytest.fixture
def elsewhere(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "elsewhere")


@pytest.fixture
def refused(empty_database_url: str, elsewhere: LocalStorage) -> Callable[[Path, str], None]:
    """Restores, expects that to be refused for that reason, and finds nothing where it would have been used."""

    def expect(source: Path, reason: str) -> None:
        with pytest.raises(BackupRefused, match=reason):
            restore(empty_database_url, elsewhere, source)
        assert list(elsewhere.folders()) == []
        engine = make_engine(empty_database_url)
        assert inspect(engine).get_table_names() == []
        engine.dispose()

    return expect


def test_everything_comes_back_and_a_running_job_is_free_for_the_next_worker(
    saved: Path, filled: Engine, empty_database_url: str, elsewhere: LocalStorage
):
    before = contents(filled)
    restore(empty_database_url, elsewhere, saved)
    engine = make_engine(empty_database_url)
    after = contents(engine)
    for row in [*before["jobs"], *before["selections"], *after["jobs"], *after["selections"]]:
        del row["lease_until"]  # over, by the clock of the restore
    [running] = [row for row in before["jobs"] if row["state"] == "running"]
    running["releases"] += 1  # the attempt under way is not counted
    assert after == before
    assert elsewhere.path(UPLOAD).read_bytes() == b"upload" * 400_000
    assert elsewhere.path(WEIGHTS).read_bytes() == b"weights"
    assert {name for folder in elsewhere.folders() for name in elsewhere.files(folder, after=0, before=1e12)} == {
        UPLOAD,
        WEIGHTS,
    }
    engine.dispose()


def test_history_goes_on_after_the_last_event(
    filled: Engine, database_url: str, storage: LocalStorage, empty_database_url: str, elsewhere: LocalStorage, tmp_path
):
    insert = f"INSERT INTO job_events (job_id, type, data) VALUES ('{REPAIR}', 'x', '{{}}') RETURNING id"
    with filled.begin() as connection:
        for _ in range(20):
            last = connection.exec_driver_sql(insert).scalar_one()
        connection.exec_driver_sql("DELETE FROM job_events WHERE id BETWEEN 11 AND 99")  # readers may have seen them
    backup.save(database_url, storage, tmp_path / "out")
    restore(empty_database_url, elsewhere, tmp_path / "out")
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        assert connection.exec_driver_sql(insert).scalar_one() > last
    engine.dispose()


def test_a_backup_is_for_its_owner_and_never_overwritten(saved: Path, database_url: str, storage: LocalStorage):
    assert saved.stat().st_mode & 0o777 == 0o600
    content = saved.read_bytes()
    with pytest.raises(BackupRefused, match="exists already"):
        backup.save(database_url, storage, saved)
    assert saved.read_bytes() == content
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_backup_is_refused(saved: Path, refused: Callable[[Path, str], None]):
    whole = saved.read_bytes()
    for position in (0, 700, len(whole) // 2, len(whole) - DIGEST_LINE - 1, len(whole) - 5):
        saved.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        refused(saved, "cut off or altered")
    for length in (0, 10, 10240, len(whole) // 2, len(whole) - DIGEST_LINE, len(whole) - 1):
        saved.write_bytes(whole[:length])
        refused(saved, "cut off or altered")
    saved.write_bytes(whole + b"\n")
    refused(saved, "cut off or altered")


def rewritten(saved: Path, change: Callable[[Path], None]) -> Path:
    """The backup with its members changed, sealed as if it had been made so."""
    folder = saved.parent / "members"
    with tarfile.open(saved) as tar:
        names = tar.getnames()
        tar.extractall(folder, filter="data")
    change(folder)
    forged = saved.parent / "forged"
    with tarfile.open(forged, "w") as tar:
        for name in names:
            tar.add(folder / name, name)
    seal(forged)
    return forged


def test_a_backup_of_a_newer_version_is_refused(saved: Path, refused: Callable[[Path, str], None]):
    def newer(folder: Path) -> None:
        manifest = folder / MANIFEST
        text = manifest.read_text()
        revision = read_manifest(saved).revision
        manifest.write_text(text.replace(f'"revision": "{revision}"', '"revision": "9999"'))

    refused(rewritten(saved, newer), "made by a newer ModeConn .revision 9999")


def test_a_member_that_is_not_the_manifests_is_refused(saved: Path, refused: Callable[[Path, str], None]):
    forged = rewritten(saved, lambda folder: os.truncate(folder / "stored" / WEIGHTS, 3))
    refused(forged, f"stored/{WEIGHTS} in .* is not what its manifest says")


def test_it_is_restored_into_what_is_empty_only(
    saved: Path, database_url: str, storage: LocalStorage, empty_database_url: str, elsewhere: LocalStorage
):
    with pytest.raises(BackupRefused, match="has tables already"):
        restore(database_url, elsewhere, saved)
    with pytest.raises(BackupRefused, match="has stored files already"):
        restore(empty_database_url, storage, saved)


def test_no_superuser_is_needed(
    hosted_database_urls: list[str], storage: LocalStorage, elsewhere: LocalStorage, tmp_path
):
    old, new = map(make_engine, hosted_database_urls)
    command.upgrade(alembic_config(hosted_database_urls[0]), "head")
    fill(old)
    missing = backup.save(hosted_database_urls[0], storage, tmp_path / "out").missing
    assert sorted(missing) == [UPLOAD, WEIGHTS]  # nobody put them there
    restore(hosted_database_urls[1], elsewhere, tmp_path / "out")
    assert {table: len(rows) for table, rows in contents(new).items()} == {
        table: len(rows) for table, rows in contents(old).items()
    }
    old.dispose()
    new.dispose()


def test_a_role_that_does_not_see_all_is_refused(
    hosted_database_urls: list[str], postgres_admin: Engine, storage: LocalStorage, tmp_path
):
    owner = hosted_database_urls[0]
    command.upgrade(alembic_config(owner), "head")
    reader, engine = f"reader_{uuid4().hex}", make_engine(owner)
    with postgres_admin.connect() as admin, engine.begin() as connection:
        admin.exec_driver_sql(f"CREATE ROLE {reader} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    engine.dispose()
    with pytest.raises(BackupRefused, match=r"hides rows of .*jobs.* from this role"):
        backup.save(make_url(owner).set(username=reader).render_as_string(), storage, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_damaged_already_is_named_and_left_out(
    filled: Engine, database_url: str, storage: LocalStorage, empty_database_url: str, elsewhere: LocalStorage, tmp_path
):
    storage.path(WEIGHTS).write_bytes(b"rotten!")
    assert backup.save(database_url, storage, tmp_path / "out").missing == [WEIGHTS]
    restore(empty_database_url, elsewhere, tmp_path / "out")
    assert not elsewhere.path(WEIGHTS).exists()
    assert elsewhere.path(UPLOAD).exists()
