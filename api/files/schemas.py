"""Bodies of the file routes."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

FileKind = Literal["model", "clean", "triggered"]


class File(BaseModel):
    """An accepted upload."""

    id: UUID
    kind: FileKind
    name: str
    bytes: int = Field(description="Of the upload.")
    sha256: str = Field(description="Of the upload, lower-case hex.")
    facts: dict[str, Any] = Field(
        description="Models: tensors [name, dtype, shape], wrapper, prefix, metadata, format. Data sets: images, "
        "classes, per_class, shape [C, H, W], dtype, duplicates."
    )
    created_at: datetime
    expires_at: datetime = Field(description="It is deleted then. A new upload of the same bytes puts it off.")


class FilePage(BaseModel):
    """Files, newest first."""

    items: list[File]
    next: str | None = Field(description="`cursor` of the next page; null on the last one.")


class Sample(BaseModel):
    """One image as a model sees it."""

    class_name: str
    png: str = Field(description="Base64. Grey is zero, black and white are two deviations away.")


class Samples(BaseModel):
    """Images of up to twelve classes after preprocessing, and what is left of them in each channel."""

    items: list[Sample]
    means: list[float] = Field(description="Per channel, over these images.")
    deviations: list[float]
