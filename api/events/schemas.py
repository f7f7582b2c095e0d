"""What an event of a job carries."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

EventType = Literal["state", "stage", "progress", "point", "warning", "succeeded", "failed", "cancelled"]


class JobEvent(BaseModel):
    """The `data` of one server-sent event: its time and what its type brings along."""

    model_config = ConfigDict(extra="allow")

    at: datetime
