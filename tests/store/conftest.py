"""Short ways to files and jobs, and to the passing of time, for the tests of the store."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from store import files, jobs
from store.database import SessionFactory, transaction
from store.tables import Job

MAX_ATTEMPTS = 3
DAY = timedelta(days=1)
MONTH = timedelta(days=30)


class MakeFile(Protocol):
    def __call__(self, kind: str, *, owner: UUID | None = None, retention: timedelta = MONTH) -> UUID: ...


class MakeJob(Protocol):
    def __call__(self, *, owner: UUID | None = None, **changes: Any) -> Job: ...


def curve_point(t: float, **changes: Any) -> dict[str, Any]:
    """A point of a repair's curve as its worker records it."""
    accuracy = ("clean_accuracy", "clean_accuracy_low", "clean_accuracy_high")
    figures = dict.fromkeys((*accuracy, "attack_success_rate", "asr_low", "asr_high"), 0.5)
    rest = {"proxy_success_rate": None, "clean_loss": 1.0, "clean_confidence": 0.9, "set": "coarse"}
    return {"path": "main", "t": t, **figures, **rest, **changes}


def analysis_point(path: str, t: float, **changes: Any) -> dict[str, Any]:
    """A point of an analysis as its worker records it, without eigenvalues."""
    names = ("clean_loss", "clean_error", "clean_error_low", "clean_error_high", "robust_loss", "robust_loss_low")
    names += ("robust_loss_high", "robust_error", "robust_error_low", "robust_error_high")
    eigenvalues = ("eigenvalue", "eigenvalue_low", "eigenvalue_high", "eigenvalue_converged")
    return {"path": path, "t": t, **dict.fromkeys(names, 0.5), **dict.fromkeys(eigenvalues), **changes}


@pytest.fixture
def make_file(factory: SessionFactory, tenant_id: UUID) -> MakeFile:
    def make(kind: str, *, owner: UUID | None = None, retention: timedelta = MONTH) -> UUID:
        file_id, tenant = uuid4(), owner or tenant_id
        with transaction(factory) as session:
            files.create_file(
                session,
                tenant_id=tenant,
                file_id=file_id,
                kind=kind,
                name=f"{kind}.bin",
                bytes=3,
                sha256="ab",
                canonical_path=f"files/{tenant}/{file_id}/canonical.npz",
                canonical_sha256="cd",
                canonical_bytes=3,
                facts={"images": 3},
                retention=retention,
            )
        return file_id

    return make


@pytest.fixture
def make_job(factory: SessionFactory, tenant_id: UUID, make_file: MakeFile) -> MakeJob:
    """A queued job of `owner` (default: `tenant_id`), with files of its own unless given."""

    def make(*, owner: UUID | None = None, **changes: Any) -> Job:
        tenant = owner or tenant_id
        values: dict[str, Any] = {
            "tenant_id": tenant,
            "request": {"suspect": "x"},
            "suspect_file_id": changes.pop("suspect_file_id", None) or make_file("model", owner=tenant),
            "clean_file_id": changes.pop("clean_file_id", None) or make_file("clean", owner=tenant),
            "labels": {},
            "seed": 0,
            "deadline": DAY,
            "retention": MONTH,
            "max_queued": 100,
            **changes,
        }
        with transaction(factory) as session:
            return jobs.create_job(session, **values)

    return make


@pytest.fixture
def claim(factory: SessionFactory) -> Callable[[UUID], Job | None]:
    """Claim a job in a transaction of its own."""

    def claim_job(job_id: UUID) -> Job | None:
        with transaction(factory) as session:
            return jobs.claim(session, job_id=job_id, worker="w", lease_seconds=60, max_attempts=MAX_ATTEMPTS)

    return claim_job


@pytest.fixture
def running_job(make_job: MakeJob, claim: Callable[[UUID], Job | None]) -> Job:
    """A job that attempt 1 holds."""
    job = claim(make_job().id)
    assert job is not None
    return job


@pytest.fixture
def running_analysis(make_job: MakeJob, make_file: MakeFile, claim: Callable[[UUID], Job | None]) -> Job:
    """An analysis that attempt 1 holds."""
    job = claim(make_job(kind="analysis", second_file_id=make_file("model"), labels={"team": "a"}).id)
    assert job is not None
    return job


@pytest.fixture
def let_pass(factory: SessionFactory) -> Callable[[UUID, str], None]:
    """Move one moment of a job (`lease_until`, `deadline_at`, `expires_at`, `enqueued_at`) to a minute ago."""

    def move(job_id: UUID, column: str) -> None:
        with transaction(factory) as session:
            session.execute(
                text(f"UPDATE jobs SET {column} = clock_timestamp() - interval '1 minute' WHERE id = :id"),
                {"id": job_id},
            )

    return move


@pytest.fixture
def see(factory: SessionFactory) -> Callable[[UUID], Job]:
    """The job as it is stored now."""

    def load(job_id: UUID) -> Job:
        with transaction(factory) as session:
            job = session.get(Job, job_id)
            assert job is not None
            return job

    return load


@pytest.fixture
def event_types(factory: SessionFactory, tenant_id: UUID) -> Callable[[UUID], list[str]]:
    """Types of the job's events so far; `state` events as `state:<state>`."""

    def load(job_id: UUID) -> list[str]:
        with transaction(factory) as session:
            events = jobs.events_after(session, tenant_id=tenant_id, job_id=job_id, after_id=0, limit=1000)
            return [f"state:{event.data['state']}" if event.type == "state" else event.type for event in events]

    return load
