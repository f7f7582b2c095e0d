"""The bounds that every upload must keep, for the reader of the bytes and for the process that reads them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the intake accepts; bytes and seconds. Sizes are checked before anything is allocated."""

    max_model_bytes: int = 4 * GIB
    """Of an uploaded model and of its canonical form (tied tensors are written once per name)."""
    max_dataset_bytes: int = 2 * GIB
    """Of an uploaded data set."""
    max_decoded_bytes: int = 8 * GIB
    """Of all images of a data set once decoded."""
    max_header_bytes: int = 8 * MIB
    """Of a safetensors header, and of the pickle in a `.pt` file."""
    max_tensors: int = 20_000
    max_dims: int = 8
    max_name_chars: int = 512
    """Of a tensor's name."""
    max_pickle_steps: int = 4_000_000
    """Opcodes of the pickle in a `.pt` file: 20,000 tensors with their Adam states take about 2,000,000."""
    max_members: int = 50_000
    """Entries of an archive, and images of a data set."""
    max_ratio: int = 100
    """Expansion of an archive member larger than `ratio_floor_bytes`, and of the archive as a whole."""
    ratio_floor_bytes: int = MIB
    max_pixels: int = 4_000_000
    """Height x width of one image."""
    max_image_bytes: int = 32 * MIB
    """Of one encoded image."""
    min_classes: int = 2
    min_images_per_class: int = 5
    max_class_id: int = 100_000
    max_duplicate_share: float = 0.5
    """A data set of which this share or more are repeated images is refused."""
    memory_bytes: int = 1_280 * MIB
    """Address space of the reading process, of which the interpreter and its libraries take 300 MiB."""
    wall_seconds: float = 120.0
    cpu_seconds: int = 120
    max_open_files: int = 64

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"limit {field.name} must be positive, not {getattr(self, field.name)}")

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """The limits written by `to_json`."""
        return cls(**json.loads(text))
