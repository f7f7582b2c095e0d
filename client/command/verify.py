"""`modeconn verify`: are these the files that a manifest or an attestation speaks of?"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from client.attestation import read_attestation
from client.command.shared import AsJson, Exit, errors_to_exit, out, print_json

Roles = dict[str, str]
"""SHA-256 -> what the job has the file for."""


class Verified(BaseModel):
    """What a job's record says of one file; `role` is None where it knows no such bytes."""

    file: str
    sha256: str
    role: str | None


def verify(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Downloaded or uploaded files.")],
    manifest: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="manifest.json of the job: its hashes, unsigned.")
    ] = None,
    attestation: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The job's signed attestation. Needs --public-key.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The service's key in PEM, as `modeconn signing-key` prints it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare files with the SHA-256 hashes of a job's results and uploads, by its manifest or signed attestation.

    Needs no service. Exit codes: 0 every file is one of the job's, 1 at least one is not, or the signature is wrong.
    """
    with errors_to_exit(as_json):
        roles = _roles(manifest, attestation, public_key)
        found = [_verified(file, roles) for file in files]
    if as_json:
        print_json(found)
    else:
        record = "manifest" if attestation is None else "attestation"
        for row in found:
            said = f"{row.role} of the job" if row.role else f"NOT in the {record}"
            out.print(f"{row.file}: {said} (SHA-256 {row.sha256})", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(Exit.OK if all(row.role for row in found) else Exit.ERROR)


def _roles(manifest: Path | None, attestation: Path | None, public_key: Path | None) -> Roles:
    """Raises ValueError for files that are not what they should be, and where neither record is given, or both."""
    if attestation is not None and manifest is None and public_key is not None:
        return _attested(attestation, public_key)
    if attestation is None and manifest is not None and public_key is None:
        return _listed(manifest)
    raise ValueError(
        "Give --manifest, or --attestation with --public-key. To hold a manifest against an attestation, name it as a "
        "file: it is one of the job's results."
    )


def _attested(attestation: Path, public_key: Path) -> Roles:
    statement = read_attestation(attestation, public_key)
    try:
        used = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        uploads = {each["digest"]["sha256"]: f"{each['name']}, an upload" for each in used}
        return uploads | {each["digest"]["sha256"]: f"{each['name']}, a result" for each in statement["subject"]}
    except (KeyError, TypeError):
        raise ValueError(f"{attestation} is signed, but speaks of no job of ModeConn.") from None


def _listed(manifest: Path) -> Roles:
    try:
        body: dict[str, Any] = json.loads(manifest.read_bytes())
        results = {each["sha256"]: f"{name}, a result" for name, each in body["outputs"].items()}
        uploads = {each["sha256"]: f"{role}, an upload" for role, each in body["inputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{manifest} is no manifest: download it with the job's results (manifest.json).") from None
    return uploads | results


def _verified(file: Path, roles: Roles) -> Verified:
    with file.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    return Verified(file=str(file), sha256=sha256, role=roles.get(sha256))
