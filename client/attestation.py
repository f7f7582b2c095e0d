"""Attestations: is one signed by the key that you trust, and which files does it speak of?"""

import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def read_attestation(path: Path, public_key: Path) -> dict[str, Any]:
    """The in-toto statement in a DSSE envelope, if the key of the PEM file signed it.

    Raises ValueError when it did not, or when either file is not what it should be.
    """
    key = _public(public_key)
    try:
        envelope = Envelope.from_dict(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no attestation: `modeconn download JOB --attestation` gets it.") from None
    try:
        envelope.verify([key], 1)
    except VerificationError:
        raise ValueError(
            f"{path} is not signed by the key in {public_key}, or was changed after it was signed. Do not rely on it. "
            "If the service has a new key, get that over a way that you trust."
        ) from None
    statement = json.loads(envelope.payload)
    if envelope.payload_type != PAYLOAD_TYPE or statement.get("_type") != STATEMENT_TYPE:
        raise ValueError(f"{path} is signed, but it is no in-toto statement.")
    found: dict[str, Any] = statement
    return found


def _public(path: Path) -> SSlibKey:
    try:
        return SSlibKey.from_crypto(serialization.load_pem_public_key(path.read_bytes()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is no public key in PEM: the service shows its own at /signing-key.") from None


def make_signing_key(path: Path) -> None:
    """A new ECDSA P-256 key in a PEM file that only its owner can read. One that is there stays."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with open(number, "wb") as file:
        file.write(pem)
