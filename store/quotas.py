"""What a tenant may use and what it uses: stored bytes, queued and running jobs, seconds of compute in a day.

A limit is a column of the tenant's row; NULL there means the service's default, which the settings hold. What is
counted is counted under the lock of that row, so that requests at the same time cannot pass a limit together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self
from uuid import UUID

from sqlalchemy import ColumnElement, Float, Select, cast, extract, func, select, update
from sqlalchemy.orm import Session

from store.errors import ComputeUsedUp, StorageQuotaExceeded
from store.settings import Settings
from store.tables import IS_HELD, IS_LOST, IS_QUEUED, ComputeSpan, Job, Tenant

DAY: Final = timedelta(days=1)
_MANY: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a tenant may have; None: as much as it likes. `compute_seconds` are those of the last 24 hours."""

    stored_bytes: int | None = None
    queued_jobs: int | None = None
    running_jobs: int | None = None
    compute_seconds: int | None = None

    @classmethod
    def default(cls, settings: Settings) -> Self:
        """What holds for tenants without limits of their own."""
        return cls(
            stored_bytes=settings.max_stored_bytes,
            queued_jobs=settings.max_queued_jobs,
            running_jobs=settings.max_running_jobs,
            compute_seconds=settings.max_compute_seconds,
        )

    def of(self, tenant: Tenant) -> "Limits":
        """The tenant's own limits, these where it has none."""
        own = {name: getattr(tenant, f"max_{name}") for name in self.__slots__}
        return Limits(**{name: getattr(self, name) if value is None else value for name, value in own.items()})


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a tenant uses now, of the same four."""

    stored_bytes: int
    queued_jobs: int
    running_jobs: int
    compute_seconds: float


def lock_tenant(session: Session, tenant_id: UUID) -> Tenant:
    """The tenant's row, locked until this transaction ends: what is counted under it stays true."""
    locked = select(Tenant).where(Tenant.id == tenant_id).with_for_update(key_share=True)
    return session.scalars(locked.execution_options(populate_existing=True)).one()


def limits_and_usage(session: Session, *, tenant_id: UUID, default: Limits) -> tuple[Limits, Usage]:
    """For the tenant to see."""
    tenant = session.get_one(Tenant, tenant_id)
    usage = Usage(
        stored_bytes=tenant.stored_bytes,
        queued_jobs=_count(session, select(Job.id).where(Job.tenant_id == tenant_id, IS_QUEUED)),
        running_jobs=_count(session, _running(tenant_id)),
        compute_seconds=compute_seconds(session, tenant_id),
    )
    return default.of(tenant), usage


def _count(session: Session, query: Select[UUID]) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _running(tenant_id: UUID) -> Select[UUID]:
    """Jobs that a worker holds; one whose lease is lost computes no more."""
    return select(Job.id).where(Job.tenant_id == tenant_id, IS_HELD, ~IS_LOST)


# stored bytes


def add_stored(session: Session, *, tenant_id: UUID, count: int, default: Limits) -> None:
    """Count bytes that are stored now. Raises StorageQuotaExceeded, and counts nothing, where they are too many."""
    tenant = lock_tenant(session, tenant_id)
    limit = default.of(tenant).stored_bytes
    if limit is not None and tenant.stored_bytes + count > limit:
        raise StorageQuotaExceeded(limit=limit, stored=tenant.stored_bytes)
    tenant.stored_bytes += count
    session.flush()


def require_stored(session: Session, *, tenant_id: UUID, default: Limits) -> None:
    """Raises StorageQuotaExceeded where not a byte more would be taken."""
    tenant = session.get_one(Tenant, tenant_id)
    limit = default.of(tenant).stored_bytes
    if limit is not None and tenant.stored_bytes >= limit:
        raise StorageQuotaExceeded(limit=limit, stored=tenant.stored_bytes)


# running jobs


def may_start(session: Session, *, job_id: UUID, default: Limits) -> bool:
    """Whether the job's tenant may have it run now. If not, it is noted as held back.

    Holds the tenant's lock until the transaction ends, so that the claims of its jobs go one by one.
    """
    tenant_id = session.scalar(select(Job.tenant_id).where(Job.id == job_id))
    if tenant_id is None:
        return False
    limits = default.of(lock_tenant(session, tenant_id))
    if _free_places(session, tenant_id, limits, besides=job_id) > 0 and not _computed_enough(
        session, tenant_id, limits
    ):
        return True
    held_back = update(Job).where(Job.id == job_id, IS_QUEUED).values(held_back_at=func.clock_timestamp())
    session.execute(held_back.execution_options(synchronize_session=False))
    return False


def may_start_now(session: Session, *, tenant_id: UUID, default: Limits) -> Sequence[UUID]:
    """The jobs of the tenant that were held back and need not wait any longer, oldest first."""
    limits = default.of(session.get_one(Tenant, tenant_id))
    if _computed_enough(session, tenant_id, limits):
        return []
    waiting = select(Job.id).where(Job.tenant_id == tenant_id, IS_QUEUED, Job.held_back_at.is_not(None))
    places = _free_places(session, tenant_id, limits)
    return session.scalars(waiting.order_by(Job.created_at, Job.id).limit(places)).all()


def _free_places(session: Session, tenant_id: UUID, limits: Limits, *, besides: UUID | None = None) -> int:
    """How many more jobs of the tenant may run. `besides`: a job that takes its own place and is not counted."""
    if limits.running_jobs is None:
        return _MANY
    running = _running(tenant_id).limit(limits.running_jobs)
    if besides is not None:
        running = running.where(Job.id != besides)
    return limits.running_jobs - _count(session, running)


# seconds of compute: a span an attempt, which its lease prolongs and its end cuts off


def require_compute(session: Session, *, tenant_id: UUID, default: Limits) -> None:
    """Raises ComputeUsedUp where a job would have to wait for days gone by."""
    limits = default.of(session.get_one(Tenant, tenant_id))
    if limits.compute_seconds is not None and _computed_enough(session, tenant_id, limits):
        raise ComputeUsedUp(limits.compute_seconds)


def compute_seconds(session: Session, tenant_id: UUID) -> float:
    """What the tenant's jobs computed in the last 24 hours; those that run count up to now."""
    now = func.statement_timestamp()
    begin = now - DAY
    span = func.least(ComputeSpan.until, now) - func.greatest(ComputeSpan.started_at, begin)
    seconds: ColumnElement[float] = cast(func.sum(extract("epoch", span)), Float)
    used = session.scalar(select(seconds).where(ComputeSpan.tenant_id == tenant_id, ComputeSpan.until > begin))
    return used or 0.0


def _computed_enough(session: Session, tenant_id: UUID, limits: Limits) -> bool:
    return limits.compute_seconds is not None and compute_seconds(session, tenant_id) >= limits.compute_seconds


def begin_span(session: Session, job: Job) -> None:
    """The attempt that has just been claimed computes, as far as is known until its lease ends."""
    session.add(ComputeSpan(job_id=job.id, attempt=job.attempt, tenant_id=job.tenant_id, until=job.lease_until))


def prolong_span(session: Session, job_id: UUID, attempt: int, lease: timedelta) -> None:
    """Its lease was renewed."""
    _set_until(session, job_id, attempt, func.clock_timestamp() + lease)


def end_span(session: Session, job: Job) -> None:
    """The attempt has ended, or had ended with its lease."""
    _set_until(session, job.id, job.attempt, func.least(ComputeSpan.until, func.clock_timestamp()))


def _set_until(session: Session, job_id: UUID, attempt: int, until: ColumnElement[datetime]) -> None:
    own = (ComputeSpan.job_id == job_id) & (ComputeSpan.attempt == attempt)
    session.execute(update(ComputeSpan).where(own).values(until=until).execution_options(synchronize_session=False))
