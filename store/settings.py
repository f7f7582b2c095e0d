"""The service's configuration: read from the environment, checked once, valid inside."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


def _psycopg_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql+psycopg", "postgresql", "postgres"):
        raise ValueError("must look like postgresql+psycopg://user:password@host:5432/database")
    return f"postgresql+psycopg://{rest}"


def _redis_url(url: str) -> str:
    if urlsplit(url).scheme not in ("redis", "rediss"):
        raise ValueError("must look like redis://host:6379/0 (or rediss:// for TLS)")
    return url


def _storage_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        raise ValueError("s3:// is not supported yet; use file:///absolute/path on a volume that api and workers share")
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise ValueError("must look like file:///absolute/path")
    return url


class DatabaseSettings(BaseSettings):
    """The part that migrations and key tools need."""

    model_config = SettingsConfigDict(
        env_prefix="MODECONN_", env_ignore_empty=True, populate_by_name=True, extra="ignore"
    )

    database_url: Annotated[str, AfterValidator(_psycopg_url)] = Field(validation_alias="DATABASE_URL", repr=False)


class StoreSettings(DatabaseSettings):
    """Where the rows and the stored files are: what backup and restore need."""

    storage_url: Annotated[str, AfterValidator(_storage_url)] = Field(validation_alias="STORAGE_URL")

    @property
    def storage_root(self) -> Path:
        """Folder that STORAGE_URL names."""
        return Path(unquote(urlsplit(self.storage_url).path))


class Settings(StoreSettings):
    """Everything the API and the worker are told from outside. Sizes in bytes, times in seconds.

    Raises pydantic.ValidationError with one sentence for each wrong variable.
    """

    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(validation_alias="REDIS_URL", repr=False)

    lease_seconds: PositiveFloat = 30
    heartbeat_seconds: PositiveFloat = 10
    max_attempts: PositiveInt = 3
    job_deadline_seconds: PositiveInt = 86_400
    sweep_seconds: PositiveFloat = 5
    checkpoint_seconds: PositiveFloat = 8
    stall_seconds: PositiveFloat = 1800  # a job that reports nothing for so long hangs: the attempt is lost
    max_model_bytes: PositiveInt = 4 * GIB
    max_dataset_bytes: PositiveInt = 2 * GIB
    retention_days: PositiveInt = 30
    # of a tenant that has no limits of its own (columns of `tenants`)
    max_stored_bytes: PositiveInt = 200 * GIB
    max_queued_jobs: PositiveInt = 100
    max_running_jobs: PositiveInt = 16
    max_compute_seconds: PositiveInt = 16 * 86_400  # in 24 hours
    max_queue_depth: PositiveInt = 100_000  # of all together
    requests_per_minute: PositiveInt = 1200  # of one key
    failed_keys_per_minute: PositiveInt = 60  # of one address
    signing_key: Path | None = None  # PEM; without one there are no attestations
    builder_id: str = "urn:modeconn:service"  # a URI: who attests
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | None = None
    job_memory_bytes: PositiveInt | None = None  # of a job's child; None: three quarters of the worker's memory

    @model_validator(mode="after")
    def _lease_outlives_two_lost_heartbeats(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError(
                f"MODECONN_LEASE_SECONDS ({self.lease_seconds:g}) must be at least three times "
                f"MODECONN_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g})"
            )
        return self


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Settings of this process, read from the environment once."""
    return Settings()  # type: ignore[call-arg]  # the required fields come from the environment
