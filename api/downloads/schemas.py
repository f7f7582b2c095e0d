"""What a download is made of."""

from collections.abc import Callable
from dataclasses import dataclass

from store.checked import CheckedFile


@dataclass(frozen=True, slots=True)
class Download:
    """A stored file on its way out; `sha256` is lower-case hex. `open` raises StorageMissing and StorageCorrupt."""

    open: Callable[[], CheckedFile]
    name: str
    media_type: str
    sha256: str
