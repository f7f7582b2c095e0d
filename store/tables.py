"""The tables. All times are timestamptz from the database's clock; every fraction is in 0..1."""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    bindparam,
    func,
    literal,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

KINDS: Final = ("repair", "analysis", "diagnosis")
STATES: Final = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")
ACTIVE_STATES: Final = ("queued", "running", "cancelling")
HELD_STATES: Final = ("running", "cancelling")  # a worker has, or had, a lease
ENDED_STATES: Final = ("succeeded", "failed", "cancelled")
STAGES: Final = (
    "validating",
    "scanning",
    "preparing_ends",
    "fitting_path",
    "fitting_robust_path",
    "sweeping",
    "selecting",
    "exporting",
)
CURVE_PATHS: Final = ("main", "unaligned")
ANALYSIS_PATHS: Final = ("standard", "robust")
FILE_KINDS: Final = ("model", "clean", "triggered")
SCOPES: Final = ("read", "write", "keys")
SELECTION_STATES: Final = ("queued", "running", "succeeded", "failed")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
    }


class Tenant(Base):
    """Whoever owns keys, files and jobs."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stored_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # of its files, canonical form
    # NULL: the service's default (store/quotas.py)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_queued_jobs: Mapped[int | None]
    max_running_jobs: Mapped[int | None]
    max_compute_seconds: Mapped[int | None]


class ApiKey(Base):
    """A key `mcr_<id>_<secret>`; of the secret only the SHA-256 is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint(f"scopes <@ ARRAY{list(SCOPES)}::text[]", name="scopes"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    secret_sha256: Mapped[str]
    label: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class File(Base):
    """An upload in its canonical form. `canonical_path` is a storage name; NULL once the bytes are gone."""

    __tablename__ = "files"
    __table_args__ = (
        _one_of("kind", FILE_KINDS),
        Index("ix_files_tenant_created", "tenant_id", text("created_at DESC"), text("id DESC")),
        Index("ix_files_tenant_sha256", "tenant_id", "sha256", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_files_expiring", "expires_at", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "ix_files_purgeable",
            "deleted_at",
            postgresql_where=text("deleted_at IS NOT NULL AND canonical_path IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    name: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    canonical_path: Mapped[str | None]
    canonical_sha256: Mapped[str]
    canonical_bytes: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class PartialUpload(Base):
    """A resumable upload of `bytes` in all: open until it has become a file or has a problem.

    What has come of it is a file in the storage (store/partial_files.py), and its size the truth.
    """

    __tablename__ = "partial_uploads"
    __table_args__ = (
        _one_of("kind", FILE_KINDS),
        Index("ix_partial_uploads_tenant_id", "tenant_id"),
        Index("ix_partial_uploads_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    name: Mapped[str | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class Job(Base):
    """One repair, analysis or diagnosis.

    `attempt` counts the claims and is the fence of every write of the worker that holds it. An analysis has its regular
    model in `suspect_file_id` and its robust one in `second_file_id`.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        _one_of("kind", KINDS),
        _one_of("state", STATES),
        _one_of("stage", STAGES),
        # listing; the second one also finds a tenant's queued jobs of every kind (its limit)
        Index("ix_jobs_tenant_kind_created", "tenant_id", "kind", text("created_at DESC"), text("id DESC")),
        Index(
            "ix_jobs_tenant_state_kind_created", "tenant_id", "state", "kind", text("created_at DESC"), text("id DESC")
        ),
        # the queue: position, what to send (again), what ran out of time
        Index("ix_jobs_queue", "created_at", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_queue_sent", "enqueued_at", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_queue_deadline", "deadline_at", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("state IN ('running', 'cancelling')")),
        # is a file in use?
        *(
            Index(
                f"ix_jobs_active_{column}",
                column,
                postgresql_where=text("state IN ('queued', 'running', 'cancelling')"),
            )
            for column in ("suspect_file_id", "clean_file_id", "triggered_file_id", "second_file_id")
        ),
        Index(
            "ix_jobs_held_back",
            "tenant_id",
            "created_at",
            "id",
            postgresql_where=text("state = 'queued' AND held_back_at IS NOT NULL"),
        ),
        Index("ix_jobs_expiring", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str] = mapped_column(server_default="repair")
    state: Mapped[str] = mapped_column(server_default="queued")
    stage: Mapped[str | None]
    request: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    seed: Mapped[int] = mapped_column(BigInteger)

    suspect_file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id"))
    clean_file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id"))
    triggered_file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    second_file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))

    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    releases: Mapped[int] = mapped_column(server_default=text("0"))  # attempts that ended in an orderly release
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]

    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    enqueued_at: Mapped[datetime | None]
    held_back_at: Mapped[datetime | None]  # when a worker last had to leave it, for its tenant's limits
    started_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]
    retention: Mapped[timedelta]  # results are kept this long after the end
    expires_at: Mapped[datetime | None]  # finished_at + retention
    retried_from: Mapped[UUID | None]


# States are rendered into the SQL, not bound, so that the planner can always match them with the partial indices above.
# Times are compared with the statement's: clock_timestamp() is volatile, and no index can be searched by it.
IS_QUEUED: Final[ColumnElement[bool]] = Job.state == literal("queued", literal_execute=True)
IS_ACTIVE: Final[ColumnElement[bool]] = Job.state.in_(
    bindparam("active", ACTIVE_STATES, expanding=True, literal_execute=True)
)
IS_HELD: Final[ColumnElement[bool]] = Job.state.in_(
    bindparam("held", HELD_STATES, expanding=True, literal_execute=True)
)
IS_LOST: Final[ColumnElement[bool]] = IS_HELD & (Job.lease_until < func.statement_timestamp())
IS_LATE: Final[ColumnElement[bool]] = Job.deadline_at <= func.statement_timestamp()


class JobLabel(Base):
    """One label of one job, laid out so that a page of a tenant's jobs of a kind with that label is one index walk."""

    __tablename__ = "job_labels"
    __table_args__ = (
        Index("ix_job_labels_page", "tenant_id", "kind", "key", "value", text("created_at DESC"), text("job_id DESC")),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    tenant_id: Mapped[UUID]
    kind: Mapped[str]
    created_at: Mapped[datetime]


class JobEvent(Base):
    """The dated history of a job, and its live stream.

    An event is inserted only by a transaction that holds the job's row lock, so within one job the ids
    grow in the order of the commits: a reader that asks for `id > last seen` misses nothing.
    """

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    type: Mapped[str]
    data: Mapped[dict[str, Any]]


class ComputeSpan(Base):
    """When an attempt at a job computed: `until` is the end of its lease, as long as it has not ended."""

    __tablename__ = "compute_spans"
    __table_args__ = (Index("ix_compute_spans_tenant_until", "tenant_id", "until"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    until: Mapped[datetime]


class CurvePoint(Base):
    """One measured point of a repair's path; intervals are 95 %.

    path `unaligned`: to a second model whose channels were left as they are, to compare with `main`. clean_confidence
    is NULL in rows of before version 0006.
    """

    __tablename__ = "curve_points"
    __table_args__ = (_one_of("set", ("coarse", "refined")), _one_of("path", CURVE_PATHS))

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True, server_default="main")
    t: Mapped[float] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    clean_accuracy: Mapped[float]
    clean_accuracy_low: Mapped[float]
    clean_accuracy_high: Mapped[float]
    attack_success_rate: Mapped[float | None]
    asr_low: Mapped[float | None]
    asr_high: Mapped[float | None]
    proxy_success_rate: Mapped[float | None]
    clean_loss: Mapped[float]
    clean_confidence: Mapped[float | None]
    set: Mapped[str]


class AnalysisPoint(Base):
    """One measured point of an analysis's path; intervals are 95 %, eigenvalues NULL where not asked for."""

    __tablename__ = "analysis_points"
    __table_args__ = (_one_of("path", ANALYSIS_PATHS),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    t: Mapped[float] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    clean_loss: Mapped[float]
    clean_error: Mapped[float]
    clean_error_low: Mapped[float]
    clean_error_high: Mapped[float]
    robust_loss: Mapped[float]
    robust_loss_low: Mapped[float]
    robust_loss_high: Mapped[float]
    robust_error: Mapped[float]
    robust_error_low: Mapped[float]
    robust_error_high: Mapped[float]
    eigenvalue: Mapped[float | None]
    eigenvalue_low: Mapped[float | None]
    eigenvalue_high: Mapped[float | None]
    eigenvalue_converged: Mapped[float | None]


class Artifact(Base):
    """A file that a job made; `path` is its storage name."""

    __tablename__ = "artifacts"
    __table_args__ = (Index("uq_artifacts_job_name", "job_id", "name", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str]
    path: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    media_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Selection(Base):
    """Another t of a finished job, exported without refitting; fenced like a job."""

    __tablename__ = "selections"
    __table_args__ = (
        _one_of("state", SELECTION_STATES),
        Index("uq_selections_job_t", "job_id", "t", unique=True, postgresql_where=text("state <> 'failed'")),
        Index("ix_selections_queue_sent", "enqueued_at", postgresql_where=text("state = 'queued'")),
        Index("ix_selections_lease", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_selections_artifact", "artifact_id", postgresql_where=text("artifact_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    t: Mapped[float]
    state: Mapped[str] = mapped_column(server_default="queued")
    figures: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    artifact_id: Mapped[UUID | None] = mapped_column(ForeignKey("artifacts.id", ondelete="SET NULL"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    enqueued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """The stored answer to a POST that carried this key; written in the transaction that did the work."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    method_path: Mapped[str]
    body_sha256: Mapped[str]
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
