"""`modeconn verify`: are these the files that a manifest speaks of?"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from client.command.shared import AsJson, Exit, errors_to_exit, out, print_json


class Verified(BaseModel):
    """What a manifest says of one file; `role` is None where it knows no such bytes."""

    file: str
    sha256: str
    role: str | None


def verify(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Downloaded or uploaded files.")],
    manifest: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="manifest.json of the job.")],
    as_json: AsJson = False,
) -> None:
    """Compare files with the SHA-256 hashes in a job's manifest: its results, and what was uploaded for it.

    Needs no service. Exit codes: 0 every file is one that the manifest names, 1 at least one is not.
    """
    with errors_to_exit(as_json):
        roles = _roles(manifest)
        found = [_verified(file, roles) for file in files]
    if as_json:
        print_json(found)
    else:
        for row in found:
            said = f"{row.role} of the job" if row.role else "NOT in the manifest"
            out.print(f"{row.file}: {said} (SHA-256 {row.sha256})", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(Exit.OK if all(row.role for row in found) else Exit.ERROR)


def _roles(manifest: Path) -> dict[str, str]:
    """SHA-256 -> what the job has the file for. Raises ValueError for what is no manifest."""
    try:
        body: dict[str, Any] = json.loads(manifest.read_bytes())
        results = {each["sha256"]: f"{name}, a result" for name, each in body["outputs"].items()}
        uploads = {each["sha256"]: f"{role}, an upload" for role, each in body["inputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{manifest} is no manifest: download it with the job's results (manifest.json).") from None
    return uploads | results


def _verified(file: Path, roles: dict[str, str]) -> Verified:
    with file.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    return Verified(file=str(file), sha256=sha256, role=roles.get(sha256))
