"""The body that answers the creation of a resumable upload, and the words of the tus protocol."""

import base64
import binascii
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api.files.schemas import FileKind

TUS_VERSION = "1.0.0"
TUS_EXTENSIONS = "creation,expiration,termination"
CONTENT_TYPE = "application/offset+octet-stream"


class ResumableUpload(BaseModel):
    """An upload that has been begun. Its bytes go to the `Location` of the answer."""

    id: UUID
    kind: FileKind
    bytes: int = Field(description="Of the whole upload.")
    expires_at: datetime = Field(description="It is given up then, unless more bytes come.")


class Metadata(BaseModel):
    """What `Upload-Metadata` says of the file; other keys are passed over, as the protocol has it."""

    model_config = ConfigDict(extra="ignore")

    kind: FileKind
    filename: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = (
        None
    )


def read_metadata(header: str) -> Metadata:
    """`key base64,key base64` as the protocol has it. Raises RequestValidationError."""
    values: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        try:
            values[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _invalid(key, "is not UTF-8 in Base64") from None
    try:
        return Metadata.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise _invalid(str(first["loc"][-1]), first["msg"]) from None


def _invalid(key: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "metadata", "loc": ("header", "Upload-Metadata", key), "msg": message}])
