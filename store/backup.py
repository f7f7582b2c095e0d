"""Backup and restore of everything the service keeps: `python -m store.backup save OUT`, `... restore IN`.

A backup is one tar file: each table as Postgres' COPY writes it, each stored file that a row names, a manifest with the
SHA-256 of every member; behind the tar stands one line, the SHA-256 of all before it. Only data is in it. The schema,
with its roles and policies, is made by the migrations up to the backup's revision. Redis is a hint and needs no backup.
"""

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, MetaData, Table, func, select, text
from sqlalchemy.exc import OperationalError

from store.backup_file import FORMAT, MANIFEST, NAMED_FILES, Manifest, copy_statement, cursor_of, seal
from store.database import make_engine
from store.errors import BackupRefused, StorageCorrupt, StorageMissing
from store.restore import restore
from store.settings import StoreSettings
from store.storage import LocalStorage, fsync_folder

MAY_WAIT = "SET LOCAL idle_in_transaction_session_timeout = 0"  # for as long as the files are copied


def save(database_url: str, storage: LocalStorage, out: Path) -> Manifest:
    """Write a backup of one moment to `out`, which appears when it is whole. The service may run meanwhile.

    Raises BackupRefused when `out` exists.
    """
    if out.exists():
        raise BackupRefused(f"{out} exists already: choose another name.")
    engine = make_engine(database_url)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            partial = Path(folder, "backup")
            with no_expiry(database_url), engine.connect() as connection:
                snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                connection.execution_options(**snapshot)
                with tarfile.open(partial, "x") as tar:
                    manifest = _write(tar, connection, storage, Path(folder))
            seal(partial)
            partial.rename(out)
            fsync_folder(out.parent)
    finally:
        engine.dispose()
    return manifest


@contextmanager
def no_expiry(database_url: str) -> Iterator[None]:
    """While the block runs no worker removes a file that a row names: what expires meanwhile goes afterwards.

    The lock is that of `worker.housekeeping.expire`. It is held before the snapshot is taken, by a connection of its
    own: a snapshot from before the lock could name files that go while one waits for it.
    """
    engine = make_engine(database_url)
    try:
        with engine.begin() as connection:
            connection.execute(text(MAY_WAIT))
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("expire", 0))))
            yield
    finally:
        engine.dispose()


def _write(tar: tarfile.TarFile, connection: Connection, storage: LocalStorage, scratch: Path) -> Manifest:
    tables, members, missing = [], {}, []
    connection.execute(text(MAY_WAIT))
    _require_sight(connection)
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    made_at = connection.scalar(text("SELECT now()::text"))
    for table in _tables(connection):
        columns = [column.name for column in table.columns]
        copied, name = scratch / "table", f"tables/{table.name}"
        rows = _copy_out(connection, table, columns, copied)
        members[name] = _add(tar, name, copied)
        tables.append((table.name, columns, rows))
    for name, sha256 in connection.execute(NAMED_FILES).all():
        try:
            path = storage.verify(name, sha256)
        except (StorageMissing, StorageCorrupt):
            missing.append(name)
            continue
        members[f"stored/{name}"] = _add(tar, f"stored/{name}", path)
        if members[f"stored/{name}"] != sha256:
            raise BackupRefused(f"{name} changed while it was copied: the disk under the storage is not to be trusted.")
    manifest = Manifest(
        format=FORMAT,
        revision=str(revision),
        made_at=str(made_at),
        tables=tables,
        sequences=_sequences(connection),
        missing=missing,
        members=members,
    )
    described = scratch / MANIFEST
    described.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    _add(tar, MANIFEST, described)
    return manifest


def _require_sight(connection: Connection) -> None:
    """Row-level security hides rows without a word. Raises BackupRefused where it would, from this role."""
    hidden = """
        SELECT tablename FROM pg_policies WHERE policyname = 'whole_service'
        AND row_security_active(quote_ident(tablename)) AND NOT current_user = ANY (roles)
    """
    if tables := connection.scalars(text(hidden)).all():
        raise BackupRefused(
            f"The database hides rows of {', '.join(sorted(tables))} from this role: "
            "use the DATABASE_URL of the role that migrates."
        )


def _tables(connection: Connection) -> list[Table]:
    """The tables as the database has them (not as this code would), each after those that its rows point to."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def _sequences(connection: Connection) -> dict[str, int]:
    used = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL"
    return {row.sequencename: row.last_value for row in connection.execute(text(used))}


def _copy_out(connection: Connection, table: Table, columns: list[str], target: Path) -> int:
    with target.open("wb") as file, cursor_of(connection) as cursor:
        with cursor.copy(copy_statement(table.name, columns, "TO STDOUT")) as rows:
            for part in rows:
                file.write(part)
        return int(cursor.rowcount)


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Adds a file as `name`; the SHA-256 of the bytes that were put there."""
    with path.open("rb") as file:
        member = tarfile.TarInfo(name)
        member.size = os.fstat(file.fileno()).st_size
        reader = _Hashing(file)
        tar.addfile(member, reader)  # type: ignore[arg-type]  # it only reads
    return reader.hash.hexdigest()


class _Hashing:
    """A file that hashes what is read of it."""

    def __init__(self, file: Any) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self.hash.update(data)
        return data


app = typer.Typer(help="Back up and restore the service that DATABASE_URL and STORAGE_URL name.")


@app.command("save")
def save_command(out: Annotated[Path, typer.Argument(help="File to write; it must not exist.")]) -> None:
    """Write a backup; the service may run meanwhile."""
    _run(save, out)


@app.command("restore")
def restore_command(source: Annotated[Path, typer.Argument(metavar="IN", help="A backup.")]) -> None:
    """Put a backup into an empty database and an empty storage; the service must not run yet."""
    _run(restore, source)


def _run(work: Any, file: Path) -> None:
    """Does it; one line about what was done, one for each stored file that is missing, or a sentence on refusal."""
    settings = StoreSettings()  # type: ignore[call-arg]  # from the environment
    try:
        manifest = work(settings.database_url, LocalStorage(settings.storage_root), file)
    except (BackupRefused, OSError, OperationalError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    stored = len(manifest.members) - len(manifest.tables)
    rows = sum(rows for _, _, rows in manifest.tables)
    typer.echo(f"{rows} rows and {stored} stored files, as they were at {manifest.made_at}")
    for name in manifest.missing:
        typer.echo(f"warning: {name} was damaged or missing in the service already and is not in the backup", err=True)


if __name__ == "__main__":
    app()
