"""What a download is made of."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Download:
    """A stored file on its way out; `sha256` is lower-case hex."""

    path: Path
    name: str
    media_type: str
    sha256: str
