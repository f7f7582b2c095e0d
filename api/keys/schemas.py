"""Bodies of the key routes."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, FutureDatetime, StringConstraints

from api.jobs.schemas import Strict


class KeyRequest(Strict):
    """A new key for the caller's own tenant."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")] = Field(
        description="What the key is for."
    )
    expires_at: Annotated[AwareDatetime, FutureDatetime] | None = Field(default=None, description="null: never.")


class Key(BaseModel):
    """A key without its secret."""

    id: str
    label: str
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
