"""Putting a backup back: into an empty database, made by the migrations, and an empty storage."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect, text

from store.backup_file import (
    MANIFEST,
    NAMED_FILES,
    Manifest,
    copy_statement,
    cursor_of,
    made_by_newer,
    quoted,
    read_manifest,
)
from store.errors import BackupRefused
from store.storage import CHUNK_BYTES, LocalStorage


def restore(database_url: str, storage: LocalStorage, source: Path) -> Manifest:
    """Put a backup into an empty database and an empty storage; jobs that ran then will be run again.

    The attempts that were under way are not counted. Raises BackupRefused before anything is put anywhere: for a
    backup that is not whole or is newer than this code, and where there are tables or stored files already.
    """
    manifest = read_manifest(source)
    if not _migrations("show", manifest.revision):
        raise made_by_newer(source, manifest.revision)
    engine = create_engine(database_url)
    try:
        _must_be_empty(inspect(engine).get_table_names(), storage)
        with storage.scratch() as scratch:
            _unpack(source, manifest, scratch)
            _migrations("upgrade", manifest.revision, DATABASE_URL=database_url)
            with engine.begin() as connection:
                _load(connection, manifest, scratch)
                for name, sha256 in connection.execute(NAMED_FILES).all():
                    if name not in manifest.missing:
                        _put(storage, scratch / "stored" / name, name, sha256)
    finally:
        engine.dispose()
    return manifest


def _must_be_empty(tables: list[str], storage: LocalStorage) -> None:
    if tables:
        raise BackupRefused("The database has tables already: restore into an empty one. Nothing was restored.")
    if next(storage.folders(), None) is not None:
        raise BackupRefused(f"{storage.root} has stored files already: restore into an empty folder.")


def _unpack(source: Path, manifest: Manifest, scratch: Path) -> None:
    with tarfile.open(source) as tar:
        names = [name for name in tar.getnames() if name != MANIFEST]
        if sorted(names) != sorted(manifest.members):
            raise BackupRefused(f"{source} does not hold what its manifest says. Nothing was restored.")
        tar.extractall(scratch, filter="data")
    for name, sha256 in manifest.members.items():
        with (scratch / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise BackupRefused(f"{name} in {source} is not what its manifest says. Nothing was restored.")


def _migrations(command: str, revision: str, **environment: str) -> bool:
    """Runs `python -m migrations`; False when it fails at showing a revision: it does not know it.

    Raises BackupRefused when another command fails.
    """
    line = [sys.executable, "-m", "migrations", command, revision]
    done = subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode != 0 and command != "show":
        raise BackupRefused(f"The migration to {revision} failed:\n{done.stderr}")
    return done.returncode == 0


def _load(connection: Connection, manifest: Manifest, scratch: Path) -> None:
    for table, columns, rows in manifest.tables:
        with (scratch / "tables" / table).open("rb") as file, cursor_of(connection) as cursor:
            # Under row-level security, which holds for every role but a superuser, COPY reads tables and fills none.
            cursor.execute(f"CREATE TEMPORARY TABLE incoming (LIKE {quoted(table)}) ON COMMIT DROP")
            with cursor.copy(copy_statement("incoming", columns, "FROM STDIN")) as copy:
                while part := file.read(CHUNK_BYTES):
                    copy.write(part)
            names = ", ".join(map(quoted, columns))
            cursor.execute(f"INSERT INTO {quoted(table)} ({names}) SELECT {names} FROM incoming")
            if cursor.rowcount != rows:
                raise BackupRefused(f"{table}: {cursor.rowcount} rows of {rows} came back. Nothing was restored.")
            cursor.execute("DROP TABLE incoming")
    for sequence, value in manifest.sequences.items():
        connection.execute(text("SELECT setval(CAST(:name AS regclass), :value)"), {"name": sequence, "value": value})
    # whoever ran these does not run them here: the next worker takes them at once, and no attempt is counted
    connection.execute(text("UPDATE jobs SET releases = releases + 1 WHERE state = 'running'"))
    for table in ("jobs", "selections"):
        connection.execute(text(f"UPDATE {table} SET lease_until = now() WHERE lease_until IS NOT NULL"))


def _put(storage: LocalStorage, source: Path, name: str, sha256: str) -> None:
    """Gives an unpacked file its place in the storage, durably. Raises BackupRefused when it is not the row's."""
    try:
        stored = storage.adopt(source, name)
    except FileNotFoundError:
        raise BackupRefused(f"The stored file {name} is not in the backup.") from None
    if stored.sha256 != sha256:
        raise BackupRefused(f"The stored file {name} in the backup is not the one that the database names.")
