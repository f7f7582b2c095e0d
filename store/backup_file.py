"""The file that a backup is: what its manifest says, how it is sealed, and whether every byte is as it was written."""

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.base import PGDialect

from store.errors import BackupRefused
from store.storage import CHUNK_BYTES

FORMAT = 1
MANIFEST = "manifest.json"
_DIGEST_LINE = 65  # 64 hex digits and the end of the line
NAMED_FILES = text(
    "SELECT canonical_path, canonical_sha256 FROM files WHERE canonical_path IS NOT NULL"
    " UNION SELECT path, sha256 FROM artifacts ORDER BY 1"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a backup holds. `members` are the SHA-256 of the tar's members by name.

    `tables` are in the order in which their rows can be put back: name, columns, number of rows. `missing` are stored
    files that rows name, and that were damaged or gone already when the backup was made.
    """

    format: int
    revision: str
    made_at: str
    tables: list[tuple[str, list[str], int]]
    sequences: dict[str, int]
    missing: list[str]
    members: dict[str, str]


quoted = PGDialect().identifier_preparer.quote  # a name, in quotes where it needs them


def copy_statement(table: str, columns: list[str], direction: str) -> str:
    return f"COPY {quoted(table)} ({', '.join(map(quoted, columns))}) {direction}"


def cursor_of(connection: Connection) -> Any:
    """psycopg's own cursor: SQLAlchemy has no COPY."""
    return connection.connection.cursor()


def seal(path: Path) -> None:
    """Puts the digest of the file behind it, and makes both durable."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(f"{digest}\n".encode())
        file.flush()
        os.fchmod(file.fileno(), 0o600)  # other people's models and images
        os.fsync(file.fileno())


def read_manifest(source: Path) -> Manifest:
    """The manifest of a backup whose every byte is as it was written. Raises BackupRefused."""
    broken = BackupRefused(f"{source} is not a whole backup: it was cut off or altered. Nothing was restored.")
    with source.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - _DIGEST_LINE
        digest = hashlib.sha256()
        while left > 0 and (part := file.read(min(left, CHUNK_BYTES))):
            digest.update(part)
            left -= len(part)
        if left != 0 or file.read() != f"{digest.hexdigest()}\n".encode():
            raise broken
    try:
        with tarfile.open(source) as tar, tar.extractfile(MANIFEST) as member:  # type: ignore[union-attr]
            found = json.load(member)
    except (tarfile.TarError, KeyError, ValueError):
        raise broken from None
    if found.get("format") != FORMAT:
        raise made_by_newer(source, found.get("revision"))
    return Manifest(**found)


def made_by_newer(source: Path, revision: Any) -> BackupRefused:
    """What is said of a backup that this code cannot know how to restore."""
    return BackupRefused(
        f"{source} was made by a newer ModeConn (revision {revision} of the database): "
        "restore it with that version. Nothing was restored."
    )
