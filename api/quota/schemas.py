"""The body of the quota route."""

from pydantic import BaseModel, Field


class Part(BaseModel):
    """One thing that is limited."""

    used: float
    limit: float


class Quota(BaseModel):
    """What the tenant may use, and what it uses now."""

    stored_bytes: Part = Field(
        description="Of the files, as they are stored: images uncompressed; and all that resumable uploads will bring."
    )
    queued_jobs: Part
    running_jobs: Part = Field(description="More than this wait in the queue.")
    compute_seconds: Part = Field(description="Of all jobs in the last 24 hours, those that run included.")
