"""Bodies of the key routes."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, FutureDatetime, StringConstraints

from api.jobs.schemas import Strict

Scope = Literal["read", "write", "keys"]
Moment = Annotated[AwareDatetime, FutureDatetime]


def _each_once(scopes: list[Scope]) -> list[Scope]:
    return sorted(set(scopes))


class KeyRequest(Strict):
    """A new key for the caller's own tenant."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")] = Field(
        description="What the key is for."
    )
    scopes: Annotated[list[Scope], AfterValidator(_each_once)] | None = Field(
        default=None,
        min_length=1,
        description="`read` looks; `write` uploads, deletes files, posts and stops jobs; `keys` manages keys. Only "
        "those that your key has; null: all of them.",
    )
    expires_at: Moment | None = Field(
        default=None, description="No later than your key's own; null: when that expires, or never."
    )


class RotationRequest(Strict):
    """A new key in place of another."""

    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = Field(
        default=86_400, description="The old key works for so long."
    )
    expires_at: Moment | None = Field(
        default=None, description="Of the new key, no later than your key's own; null: when the old one would."
    )


class Key(BaseModel):
    """A key without its secret."""

    id: str
    label: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKey(Key):
    """A key as it is shown once."""

    key: str | None = Field(
        description="The key itself. It is not stored: a repeat with the same Idempotency-Key shows null."
    )


class Keys(BaseModel):
    """All keys of the tenant, newest first."""

    items: list[Key]
