"""The service's signing key: in-toto statements in signed DSSE envelopes."""

import json
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Signing:
    """A private key that signs statements; `public_pem` is what checks them."""

    def __init__(self, signer: CryptoSigner) -> None:
        self._signer = signer
        self.public_pem: str = signer.public_key.keyval["public"]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key in a PEM file without a passphrase. Raises ValueError that says what is wrong with the file."""
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
            return cls(CryptoSigner(private))
        except OSError as error:
            raise ValueError(f"MODECONN_SIGNING_KEY: {path} cannot be read: {error.strerror}.") from error
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"MODECONN_SIGNING_KEY: {path} must be a private key in PEM without a passphrase (ECDSA P-256, Ed25519 "
                f"or RSA): {error}"
            ) from error

    def envelope(self, statement: dict[str, Any]) -> bytes:
        """The statement as JSON in a DSSE envelope with one signature."""
        envelope = Envelope(json.dumps(statement, sort_keys=True).encode(), PAYLOAD_TYPE, {})
        envelope.sign(self._signer)
        return json.dumps(envelope.to_dict()).encode()
